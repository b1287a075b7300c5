from pathlib import Path

import pytest

from heretic.common.errors import UserError
from heretic.common.file_names import LONGEST, expanded, free_name, inside, leads_outside, safe_name, time_stamped

HOSTILE = [
    *(
        "../../x",
        "/etc/passwd",
        "C:\\x",
        "a\x00b",
        "x" * 5000,
        "\u00e9" * 200,
        "CON",
        "nul.txt",
        "com1.tar.gz",
        "..",
        ".",
        "",
    ),
    *(
        "~/x",
        "a/../../b",
        "..\\..\\x",
        "\\\\host\\share",
        "\u202egpj.exe",
        "a:b",
        "-rf",
        ".hidden",
        "x. ",
        "\ud800",
        " ",
    ),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_becomes_one_name_in_its_folder(tmp_path: Path, text: str) -> None:
    name = safe_name(text)
    path = tmp_path / name
    path.write_text("x")
    assert path.resolve().parent == tmp_path.resolve()
    assert 0 < len(name.encode()) <= LONGEST + 1
    assert not set(name) & set('/\\:*?"<>|\x00\u202e')
    assert name.partition(".")[0].upper() not in {"CON", "NUL", "COM1"}
    assert not name.startswith((".", "-"))
    assert not name.endswith((".", " "))
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["Qwen3-4B-Instruct", "my_model.v2", "Modell \u00dc"])
def test_ordinary_names_stay(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["../x", "/x", "C:\\x", "C:x", "a/../../x", "a\\..\\x", "\\x", "", "a\x00"])
def test_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    assert leads_outside(name)
    with pytest.raises(UserError, match="leads out of the folder"):
        inside(tmp_path, name)


def test_links_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    (folder / "NOTICE").write_text("x")
    (folder / "loop").symlink_to("loop")
    assert inside(folder, "NOTICE") == folder / "NOTICE"
    for name in ("LICENSE", "loop"):
        with pytest.raises(UserError):
            inside(folder, name)


def test_an_unknown_users_home_is_an_ordinary_name(monkeypatch):
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("USERPROFILE", "/home/jane")
    assert expanded("~/a") == Path("/home/jane/a")
    assert expanded("~no such user/a") == Path("~no such user/a")
    assert expanded("a~") == Path("a~")


def test_time_stamped_names_sort_by_time() -> None:
    assert time_stamped("heretic").startswith("heretic-20")
    assert len(time_stamped("heretic")) == len("heretic-20260101-000000")


def test_a_taken_name_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_name("model") == "model"
    (tmp_path / "model").mkdir()
    (tmp_path / "model-2").write_text("")
    assert free_name("model") == "model-3"
