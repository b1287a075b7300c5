"""``python -m heretic``, and the commands ``heretic``, ``heretic-vast`` and ``heretic-runpod``."""

import atexit
import os
import sys
import threading

from heretic import cli


def main() -> None:
    """``heretic``; ends the process."""
    _end(cli.main())


def vast() -> None:
    """``heretic-vast``; ends the process."""
    _end(cli.main(["cloud", "--provider", "vast", *sys.argv[1:]]))


def runpod() -> None:
    """``heretic-runpod``; ends the process."""
    _end(cli.main(["cloud", "--provider", "runpod", *sys.argv[1:]]))


def _end(code: int) -> None:
    """End the process with this exit code; where torch is loaded, without taking the interpreter apart.

    Module by module that takes 2 s of every run, only to free what the system frees at once. What was registered to
    be done at the end is done before; where a thread still has to end, the ordinary way waits for it.
    """
    waits = any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate())
    if "torch" in sys.modules and not waits:
        atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
