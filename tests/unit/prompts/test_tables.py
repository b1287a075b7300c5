"""Tables on disk are read by the real datasets library; the hub's failures are its real exceptions."""

import json

import datasets
import pytest
from datasets import Dataset, DatasetDict
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from tests.unit.models.hub_error import hub_error

from heretic.common.errors import PromptError

TEXTS = [f"prompt {number}" for number in range(10)]


def write_file(folder, ending, name="data"):
    path = folder / f"{name}.{ending}"
    table = Dataset.from_dict({"id": list(range(10)), "text": TEXTS})
    if ending == "csv":
        table.to_csv(path)
    elif ending == "parquet":
        table.to_parquet(path)
    elif ending == "json":
        path.write_text(json.dumps(list(table)), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


@pytest.fixture
def stored_splits(tmp_path):
    splits = {"train": Dataset.from_dict({"text": TEXTS}), "test": Dataset.from_dict({"text": ["other"]})}
    DatasetDict(splits).save_to_disk(tmp_path / "stored")
    return tmp_path / "stored"


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_files(tmp_path, load, ending, streaming):
    path = write_file(tmp_path, ending)
    assert load(path, streaming=streaming) == TEXTS
    assert load(path, split="train[2:5]", streaming=streaming) == TEXTS[2:5]
    assert load(path, split="[2:]", limit=3, streaming=streaming) == TEXTS[2:5]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["data [v1]", "a*b?", "[!x]", "one::two"])
def test_a_path_that_exists_is_that_path(tmp_path, load, monkeypatch, name, streaming):
    """Whatever another file is called that the same characters match as a pattern."""
    folder = tmp_path / name
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "p1.jsonl").write_text('{"text": "another"}\n', encoding="utf-8")
    for place in (tmp_path, folder / "sub"):
        (place / "p[1].jsonl").write_text('{"text": "the one"}\n', encoding="utf-8")
    assert load(folder / "sub" / "p[1].jsonl", streaming=streaming) == ["the one"]
    assert load(tmp_path / "p[1].jsonl", streaming=streaming) == ["the one"]
    assert load(folder, streaming=streaming) == ["the one"]
    monkeypatch.chdir(folder / "sub")
    assert load("p[1].jsonl", streaming=streaming) == ["the one"]


def test_a_stored_set_in_a_folder_with_brackets(tmp_path, load):
    Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "set [1]")
    assert load(tmp_path / "set [1]") == TEXTS


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("streaming", [False, True])
def test_an_empty_file(tmp_path, load, ending, streaming):
    path = tmp_path / f"data.{ending}"
    path.touch()
    with pytest.raises(PromptError, match=r"data\.\w+ (holds no prompts|cannot be read)"):
        load(str(path), streaming=streaming)


def test_percentages_need_a_table_that_is_not_streamed(tmp_path, load):
    path = write_file(tmp_path, "jsonl")
    assert load(path, split="[:20%]") == TEXTS[:2]
    with pytest.raises(PromptError, match=r"length of a streamed set is not known; give the split as rows"):
        load(path, split="[:20%]", streaming=True)


def test_a_saved_table_and_saved_splits(tmp_path, stored_splits, load):
    Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "table")
    assert load(tmp_path / "table", split="train[-3:]") == TEXTS[-3:]
    assert load(stored_splits, split="test") == ["other"]
    assert load(stored_splits) == TEXTS


def test_a_folder_of_files_with_splits(tmp_path, load):
    folder = tmp_path / "folder"
    folder.mkdir()
    write_file(folder, "jsonl", "train")
    (folder / "test.jsonl").write_text('{"id": 0, "text": "only one"}\n', encoding="utf-8")
    assert load(folder, split="test") == ["only one"]
    assert load(folder, split="train[:2]") == TEXTS[:2]


def test_a_wrong_split_names_those_that_exist(stored_splits, load):
    with pytest.raises(PromptError, match=r"has no split validation; it has train, test: set 'split'"):
        load(stored_splits, split="validation[:10]")


def test_a_wrong_column_names_those_that_exist(tmp_path, load):
    with pytest.raises(PromptError, match=r"^bad_prompts: .* has no column goal; it has id, text: set 'column'"):
        load(write_file(tmp_path, "csv"), column="goal")


def test_a_column_of_numbers_is_refused(tmp_path, load):
    with pytest.raises(PromptError, match=r"the column id of .* holds neither text nor conversations"):
        load(write_file(tmp_path, "jsonl"), column="id")


def test_empty_cells_are_skipped(tmp_path, load):
    path = tmp_path / "gaps.jsonl"
    rows = [None, "", "  ", "kept", None, "also"]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows), encoding="utf-8")
    assert load(path) == ["kept", "also"]
    assert load(path, limit=1) == ["kept"]


def test_a_table_without_prompts_is_refused(tmp_path, load):
    Dataset.from_dict({"text": []}).save_to_disk(tmp_path / "empty")
    with pytest.raises(PromptError, match="holds no prompts"):
        load(tmp_path / "empty")


def test_conversations(tmp_path, load):
    path = tmp_path / "chats.jsonl"
    turns = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "first"}],
        [
            {"role": "user", "content": "second"},
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": "y"},
        ],
        [{"role": "assistant", "content": "nobody asked"}],
    ]
    rows = "".join(json.dumps({"id": f"{row}", "messages": chat}) + "\n" for row, chat in enumerate(turns))
    path.write_text(rows, encoding="utf-8")
    assert load(path, column="messages") == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n'),
        ("broken.parquet", b"no parquet at all"),
        ("ragged.csv", b'text,id\n"open\nline'),
        ("latin.csv", "text\ncaf\xe9\n".encode("latin-1")),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, load, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PromptError, match=rf"^bad_prompts: .*{name} cannot be read \(.+\); correct the file") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_ending_is_refused(tmp_path, load):
    path = tmp_path / "prompts.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(PromptError, match=r"unknown ending; use \.txt, \.jsonl"):
        load(path)


def test_a_folder_without_data_is_refused(tmp_path, load):
    folder = tmp_path / "nothing"
    folder.mkdir()
    with pytest.raises(PromptError, match="nothing cannot be read"):
        load(folder)


def test_a_wrong_configuration_names_those_that_exist(tmp_path, load):
    folder = tmp_path / "configured"
    folder.mkdir()
    write_file(folder, "jsonl", "easy")
    write_file(folder, "jsonl", "hard")
    entries = [f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("easy", "hard")]
    (folder / "README.md").write_text("---\nconfigs:\n" + "".join(entries) + "---\n", encoding="utf-8")
    assert load(folder, config="hard", split="train[:1]") == TEXTS[:1]
    with pytest.raises(PromptError, match="has no configuration wrong; it has easy, hard: set 'config'"):
        load(folder, config="wrong")
    with pytest.raises(PromptError, match="has several configurations; it has easy, hard: set 'config'"):
        load(folder)


def caused(error, cause):
    error.__cause__ = cause
    return error


HUB_FAILURES = [
    (
        caused(DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."), hub_error(GatedRepoError, 403)),
        "accept its conditions .* 'hf auth login'",
    ),
    (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub. Visit the page."), "accept its conditions"),
    (
        caused(DatasetNotFoundError("Dataset 'a/b' doesn't exist"), hub_error(RepositoryNotFoundError, 404)),
        "no such dataset on the hub",
    ),
    (
        # What the hub answers where nobody is logged in.
        caused(DatasetNotFoundError("Dataset 'a/b' doesn't exist"), hub_error(RepositoryNotFoundError, 401)),
        "no such dataset on the hub",
    ),
    (hub_error(RepositoryNotFoundError, 404), "no such dataset on the hub"),
    (DatasetNotFoundError("Revision 'x' doesn't exist for dataset 'a/b' on the Hub."), "check 'revision'"),
    (hub_error(HfHubHTTPError, 401), "refuses access .* HF_TOKEN"),
    (OfflineModeIsEnabled("offline"), "the hub cannot be reached"),
    (ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"), "the hub cannot be reached"),
    (caused(OSError("wrapped"), LocalEntryNotFoundError("not cached")), "the hub cannot be reached"),
    (ValueError("something else\nwith a second line"), r"a/b cannot be read \(something else\)"),
]


@pytest.mark.parametrize(("error", "sentence"), HUB_FAILURES)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_the_hub_refuses_is_one_sentence_with_the_next_step(monkeypatch, load, error, sentence, streaming):
    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(PromptError, match=sentence) as caught:
        load("a/b", streaming=streaming)
    assert str(caught.value).startswith("bad_prompts: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_dataset_is_asked_for_with_its_settings(monkeypatch, load, streaming):
    calls = []

    def answer(*args, **options):
        calls.append((args, options))
        table = Dataset.from_dict({"text": TEXTS})
        return {"train": table.to_iterable_dataset() if options["streaming"] else table}

    monkeypatch.setattr(datasets, "load_dataset", answer)
    options = {"config": "main", "revision": "abc", "streaming": streaming}
    assert load("a/b", split="train[3:5]", **options) == TEXTS[3:5]
    assert calls == [(("a/b", "main"), {"revision": "abc", "streaming": streaming})]


def test_a_stream_is_not_read_further_than_needed(monkeypatch, load):
    def rows():
        yield from ({"text": text} for text in TEXTS[:5])
        pytest.fail("read too far")

    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_a, **_o: {"train": datasets.IterableDataset.from_generator(rows)}
    )
    assert load("a/b", split="train[1:]", limit=3, streaming=True) == TEXTS[1:4]


def test_a_connection_that_breaks_while_streaming_is_explained(monkeypatch, load):
    def rows():
        yield {"text": "one"}
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_a, **_o: {"train": datasets.IterableDataset.from_generator(rows)}
    )
    with pytest.raises(PromptError, match="the hub cannot be reached"):
        load("a/b", streaming=True)
