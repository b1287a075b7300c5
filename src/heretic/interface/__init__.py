"""What a person sees and answers: console lines, progress bar, picker and chat; the only room that prints."""
