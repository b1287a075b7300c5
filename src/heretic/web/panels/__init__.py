"""Parts of the page that stand below the conversation, one a file: their fields, and what they do."""
