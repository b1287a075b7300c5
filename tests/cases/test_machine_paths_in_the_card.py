"""Wrong: files that are meant for uploading name the folders of this machine in which the base lies.

Right: of a hub's cache they name a/b, of another folder its last name. The kind: tests/unit/common/test_file_names.py;
of a merged model's configuration tests/unit/export/test_base.py.
"""

import shutil
from pathlib import Path

from tests.cases.conftest import Run

from heretic.models.demo import DEMO_MODEL_FOLDER

SNAPSHOT = "home/jane.doe/hub/models--a-maker--a-model/snapshots/0123456789abcdef0123456789abcdef01234567"


def test_no_written_file_names_a_folder(run: Run, tmp_path: Path) -> None:
    base = shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / SNAPSHOT)
    adapter = ("--save-format", "adapter", "--normalization", "none")
    run("--behavior", "demo", "--report", "true", *adapter, model=str(base)).assert_done()
    written = [path for name in ("out", "out_report") for path in (tmp_path / name).rglob("*") if path.is_file()]
    texts = {path.name: path.read_bytes() for path in written}
    assert b"a-maker/a-model" in texts["README.md"]
    assert [name for name, text in texts.items() if b"jane.doe" in text or bytes(tmp_path) in text] == []
