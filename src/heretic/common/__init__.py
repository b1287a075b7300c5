"""What every folder may use: errors and what foreign libraries raise, names, checksums, secrets, extension points."""
