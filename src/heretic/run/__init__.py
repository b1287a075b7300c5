"""One run: what is prepared before the search, and what a study is compared by."""
