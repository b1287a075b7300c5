"""How the process ends."""

import subprocess
import sys

import pytest

END = """
import atexit, sys, threading, time
from heretic.__main__ import _end

{before}
atexit.register(lambda: print("at the end"))
print("said")
_end(3)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("", ["said", "at the end"]),
        # Any module of that name.
        ("sys.modules['torch'] = sys", ["said", "at the end"]),
        (
            "sys.modules['torch'] = sys\nthreading.Thread(target=lambda: (time.sleep(0.3), print('a thread'))).start()",
            ["said", "a thread", "at the end"],
        ),
    ],
)
def test_code_output_and_what_was_registered_outlive_a_short_end(before: str, said: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", END.format(before=before)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stdout.split("\n")[:-1], ended.stderr) == (3, said, "")


def test_it_really_is_short() -> None:
    """What Python would do after the registered functions, taking modules apart, is not done."""
    before = "class Kept:\n    def __del__(self): print('taken apart')\nkept = Kept()\nsys.modules['torch'] = {module}"
    outputs = [
        subprocess.run(
            [sys.executable, "-c", END.format(before=before.format(module=module))],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        ).stdout
        for module in ("sys", "None; del sys.modules['torch']")
    ]
    assert ["taken apart" in output for output in outputs] == [False, True]
