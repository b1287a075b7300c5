"""Wrong: an existing prompt file below a folder with brackets "cannot be read", or another file is read in its place.

Right: a path that exists is that path. The kind: tests/unit/prompts/test_tables.py.
"""

from pathlib import Path

from tests.cases.conftest import GOOD, Run


def test_prompts_below_a_folder_with_brackets(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data [v1]").mkdir()
    rows = "".join(f'{{"text": "{line}"}}\n' for line in GOOD.splitlines())
    (tmp_path / "data [v1]" / "p[1].jsonl").write_text(rows, encoding="utf-8")
    (tmp_path / "data [v1]" / "p1.jsonl").write_text('{"text": "Only one prompt."}\n', encoding="utf-8")
    result = run("--good-prompts", "data [v1]/p[1].jsonl")
    result.assert_done()
    assert (tmp_path / "out" / "config.json").is_file()
    assert "6 of 6 good_evaluation_prompts also stand in good_prompts" in result.output + result.errors
