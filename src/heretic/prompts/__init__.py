"""Prompt sets: what they are (types), where they come from (sources), and the bundled packs (behaviors)."""
