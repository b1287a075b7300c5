"""Reports whose right value a unit test asserts as strongly as a run would: each is named here, and is there."""

from pathlib import Path

import pytest

UNIT = Path(__file__).parents[1] / "unit"
ELSEWHERE = {
    "prompts below a folder with brackets in its name": (
        "prompts/test_tables.py",
        "test_a_path_that_exists_is_that_path",
    ),
    "a study continued under a changed chat template": (
        "run/test_identity.py",
        "test_a_study_is_not_continued_with_what_the_model_reads_or_ends_by_changed",
    ),
    "a chat template that refuses a second turn": (
        "interface/test_chat.py",
        "test_a_template_that_takes_one_message_begins_each_conversation_anew_and_says_why",
    ),
    "--compile without a compiler": (
        "models/test_private_api.py",
        "test_a_model_that_cannot_be_compiled_stays_as_it_was",
    ),
    "devices of the example that this machine has not": (
        "models/test_devices.py",
        "test_a_placement_on_devices_that_are_not_there",
    ),
    "sampling defaults that saving loses": (
        "export/test_base.py",
        "test_every_key_of_the_base_stays",
    ),
    "a machine's paths in files meant for uploading": (
        "export/test_base.py",
        "test_names_of_other_machines_go",
    ),
}
"""Report -> file and test."""


@pytest.mark.parametrize(("file", "test"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_the_named_test_is_there(file: str, test: str) -> None:
    assert f"def {test}(" in (UNIT / file).read_text(encoding="utf-8")
