"""Wrong: without a network a model that lies in the cache is loaded after minutes of waits that nobody is told of.

Right: after one failure what is in the cache is used, said in one line.
"""

from pathlib import Path

from tests.cases.conftest import Run
from tests.cases.hub import asking, cached

from heretic.models.demo import DEMO_MODEL_FOLDER

NOBODY = "http://127.0.0.1:1"


def test_a_cached_model(run: Run, tmp_path: Path) -> None:
    use = cached(tmp_path / "cache", Path(DEMO_MODEL_FOLDER))
    result = run("--behavior", "demo", model="someone/some-model", before=asking(NOBODY) + use)
    result.assert_done()
    said = [line for line in (result.output + result.errors).splitlines() if "127.0.0.1 cannot be reached" in line]
    # While loading, and once more while saving, when hours have passed.
    assert len([line for line in said if line.startswith("Warning: 127.0.0.1")]) == 2


def test_a_model_that_is_not_cached(run: Run, tmp_path: Path) -> None:
    use = cached(tmp_path / "cache", Path(DEMO_MODEL_FOLDER))
    result = run(model="someone/another", before=asking(NOBODY) + use)
    assert result.code == 2
    assert "someone/another is not in the local cache" in result.errors
