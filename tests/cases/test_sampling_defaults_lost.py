"""Wrong: temperature, top_p and top_k of a base that does not say do_sample are gone when its edit is saved.

Right: what the edit does not concern stays. The kind: tests/unit/export/test_base.py.
"""

import json
import shutil
from pathlib import Path

from tests.cases.conftest import Run

from heretic.models.demo import DEMO_MODEL_FOLDER


def test_what_servers_sample_with(run: Run, tmp_path: Path) -> None:
    model = shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / "model")
    path = model / "generation_config.json"
    base = {**json.loads(path.read_text(encoding="utf-8")), "temperature": 0.6, "top_p": 0.9, "top_k": 20}
    base.pop("do_sample", None)
    path.write_text(json.dumps(base), encoding="utf-8")
    run("--behavior", "demo", model="model").assert_done()
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text(encoding="utf-8"))
    assert {name: value for name, value in saved.items() if name in base} == base
    assert "do_sample" not in saved
