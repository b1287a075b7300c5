"""``python -m heretic`` and the ``heretic`` command."""

import sys

from heretic.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
