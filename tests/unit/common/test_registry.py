"""Extension points are found by name, ours and other people's, and a wrong name says what there is."""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from heretic.common import registry
from heretic.common.errors import PluginError
from heretic.common.registry import Registry
from heretic.directions.extractor import EXTRACTORS, Extractor
from heretic.directions.transform import TRANSFORMS
from heretic.evaluation.evaluator import EVALUATORS


@pytest.fixture
def thing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry[object]]:
    """A registry without plug-ins of its own, as long as nobody writes any to the folder things."""
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry("thing", "things")
    for name in [name for name in sys.modules if name.partition(".")[0] == "things"]:
        del sys.modules[name]


@pytest.fixture
def extractors(monkeypatch: pytest.MonkeyPatch) -> Registry[Extractor]:
    """The registry of extractors, which forgets what a test adds."""
    for name in EXTRACTORS.names():
        EXTRACTORS.get(name)
    monkeypatch.setattr(EXTRACTORS, "_entries", dict(EXTRACTORS._entries))
    return EXTRACTORS


def install(monkeypatch: pytest.MonkeyPatch, group: str, **values: str) -> None:
    """Pretend that packages with these entry points are installed."""
    installed = [EntryPoint(name, value, group) for name, value in values.items()]

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry for entry in installed if entry.group == group and name in (None, entry.name)]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_own_plugins_register_themselves_when_first_asked_for() -> None:
    assert {"mean", "pca"} <= set(EXTRACTORS.names())
    assert EXTRACTORS.get("pca").needs_second_moment
    assert not EXTRACTORS.get("mean").needs_second_moment
    assert EXTRACTORS.get("mean") is EXTRACTORS.get("mean")


@pytest.mark.parametrize("plugins", [EVALUATORS, EXTRACTORS, TRANSFORMS])
def test_every_file_holds_the_plugin_that_it_is_named_after(plugins: Registry[object]) -> None:
    assert all(callable(getattr(found, "extract", found)) for found in map(plugins.get, plugins.names()))


def test_names_are_known_and_one_plugin_is_imported_without_the_others(thing: Registry[object], tmp_path: Path) -> None:
    (tmp_path / "things" / "light.py").write_text("import things\n\nthings.THINGS.register('light', 3)\n")
    (tmp_path / "things" / "heavy.py").write_text("raise ImportError('nobody asked for it')\n")
    import_module("things").THINGS = thing
    assert thing.names() == ("heavy", "light")
    assert thing.get("light") == 3
    with pytest.raises(ImportError, match="nobody asked for it"):
        thing.get("heavy")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        PluginError, match=r"no extractor named maen; did you mean mean\? Else choose one of .*mean.*pca"
    ):
        EXTRACTORS.get("maen")


def test_decorator_registers_and_returns_the_entry(thing: Registry[object]) -> None:
    entry = object()
    assert thing.decorator("one")(entry) is entry
    assert thing.get("one") is entry
    assert thing.names() == ("one",)


def test_two_plugins_of_one_name_are_refused_and_the_first_stays(thing: Registry[object]) -> None:
    first = object()
    thing.register("one", first)
    thing.register("one", first)
    with pytest.raises(PluginError, match="Two things are named one"):
        thing.register("one", object())
    assert thing.get("one") is first


def test_installed_plugins_are_found_in_the_group_of_their_kind(
    thing: Registry[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "heretic.things", root="math:sqrt")
    import math

    assert thing.names() == ("root",)
    assert thing.get("root") is math.sqrt
    with pytest.raises(PluginError, match="no extractor named root"):
        EXTRACTORS.get("root")


@pytest.mark.parametrize("value", ["no_such_module_anywhere:thing", "math:no_such_attribute"])
def test_a_plugin_that_cannot_be_imported_is_named(
    thing: Registry[object], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install(monkeypatch, "heretic.things", broken=value, root="math:sqrt")
    with pytest.raises(PluginError, match=f"The thing broken \\(entry point {value}\\) cannot be imported"):
        thing.get("broken")
    assert thing.names() == ("broken", "root")
    assert callable(thing.get("root"))


FAILING = {
    "value": ("raise ValueError('first line.\\nsecond line')", r"ValueError: first line\)"),
    "syntax": ("def broken(:", "SyntaxError: "),
    "no message": ("assert 1 == 2", r"AssertionError: AssertionError\)"),
    "own class": ("class Odd(Exception): ...\nraise Odd('why')", r"Odd: why\)"),
    "a script": ("import sys\nsys.exit()", r"SystemExit: SystemExit\)"),
}


@pytest.mark.parametrize(("source", "reason"), FAILING.values(), ids=FAILING.keys())
def test_whatever_a_plugin_raises_while_it_is_imported_is_one_sentence(
    thing: Registry[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, reason: str
) -> None:
    (tmp_path / "failing_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, "heretic.things", broken="failing_plugin:entry")
    expected = rf"^The thing broken \(entry point failing_plugin:entry\) cannot be imported \({reason}"
    with pytest.raises(PluginError, match=expected) as caught:
        thing.get("broken")
    assert "\n" not in str(caught.value)
    assert "uninstall the package" in str(caught.value)
    assert "failing_plugin" not in sys.modules


def test_ctrl_c_while_a_plugin_is_imported_stays_ctrl_c(
    thing: Registry[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "slow_plugin.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, "heretic.things", slow="slow_plugin:entry")
    with pytest.raises(KeyboardInterrupt):
        thing.get("slow")


def test_a_plugin_that_takes_one_of_our_names_is_told_so(
    extractors: Registry[Extractor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "second_mean.py").write_text(
        "from heretic.directions.extractor import extractor\n\nEXTRACTOR = extractor('mean')(object())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, "heretic.extractors", second="second_mean:EXTRACTOR")
    with pytest.raises(PluginError, match=r"^Two extractors are named mean; uninstall or rename one of them\.$"):
        extractors.get("second")


def test_an_installed_plugin_written_with_our_decorator_is_an_extractor(
    extractors: Registry[Extractor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The decorator gives the function back, so the entry point names a function and not what was registered."""
    (tmp_path / "foreign_extractor.py").write_text(
        "from heretic.directions.extractor import extractor\n\n"
        "@extractor('foreign', needs_second_moment=True)\n"
        "def foreign(target, baseline, options):\n    raise NotImplementedError\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    install(monkeypatch, "heretic.extractors", foreign="foreign_extractor:foreign")
    try:
        found = extractors.get("foreign")
    finally:
        sys.modules.pop("foreign_extractor", None)
    assert isinstance(found, Extractor)
    assert found.needs_second_moment
