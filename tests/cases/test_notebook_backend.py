"""Wrong: with the MPLBACKEND of a notebook the report is not written, and a saved model ends as a mistake in Heretic.

Right: charts do not depend on it. The kind: tests/unit/report/test_write.py.
"""

from pathlib import Path

from tests.cases.conftest import Run

BEFORE = """
import os, sys
assert "matplotlib" not in sys.modules
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
"""


def test_a_report_from_a_notebook(run: Run, tmp_path: Path) -> None:
    run("--report", "true", before=BEFORE).assert_done()
    assert (tmp_path / "out_report" / "heretic_report.html").is_file()
