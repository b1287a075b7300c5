"""One extractor a file; `directions.extractor.EXTRACTORS` finds them by name."""
