"""What a search found as one self-contained page with its charts."""
