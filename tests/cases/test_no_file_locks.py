"""Wrong: a file system without locks ends as a mistake in Heretic, or as another run that works on the study, for ever.

Right: a sentence that names what the file system lacks, before prompts are read.
"""

import pytest
from tests.cases.conftest import Run

BEFORE = """
import errno, fcntl, os

def flock(*arguments):
    raise OSError(errno.{0}, os.strerror(errno.{0}))

fcntl.flock = flock
"""


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_a_file_system_without_locks(run: Run, name: str) -> None:
    run(before=BEFORE.format(name)).assert_one_sentence("without locks", "--storage")
