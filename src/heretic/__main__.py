"""``python -m heretic``, and the commands ``heretic``, ``heretic-vast`` and ``heretic-runpod``."""

import sys

from heretic.cli import main

__all__ = ["main", "runpod", "vast"]


def vast() -> int:
    """``heretic-vast``; returns the exit code."""
    return main(["cloud", "--provider", "vast", *sys.argv[1:]])


def runpod() -> int:
    """``heretic-runpod``; returns the exit code."""
    return main(["cloud", "--provider", "runpod", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
