from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from tests.unit.export.conftest import names_in
from tests.unit.measured import capability

from heretic.export import origin as origin_module
from heretic.export.card import capability_section, model_card, table
from heretic.export.content import ExportContent, ExportFormat
from heretic.export.origin import Origin, copy_legal_files, find_origin
from heretic.models.loaded import LoadedModel
from heretic.observability.events import Warned
from heretic.results import tables
from heretic.results.plan import EditPlan, Normalization, Scope
from heretic.results.score import AnswerDetails, Score, Scores

LAYERS = 5
WORDS = Score("words", 91.25, 40, 120.5, AnswerDetails(120), "words")
UNKNOWN = Origin(None)


def card(loaded: LoadedModel, content: ExportContent, origin: Origin = UNKNOWN, adapter: bool = False) -> str:
    export_format = ExportFormat.ADAPTER if adapter else ExportFormat.MERGED
    return model_card(loaded, content, export_format, origin, LAYERS)


def test_metadata_names_base_model_and_licence(loaded: LoadedModel, content: ExportContent) -> None:
    origin = Origin("some/base-model", "other", "llama3.2", "LICENSE", ["en", "de"])
    data = ModelCard(card(loaded, content, origin)).data.to_dict()
    assert data["base_model"] == "some/base-model"
    assert data["base_model_relation"] == "finetune"
    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "llama3.2", "LICENSE")
    assert data["library_name"] == "transformers"
    assert data["language"] == ["en", "de"]
    assert "heretic" in data["tags"]
    adapter = ModelCard(card(loaded, content, origin, adapter=True)).data.to_dict()
    assert adapter["library_name"] == "peft"
    assert adapter["base_model_relation"] == "adapter"


@pytest.mark.parametrize(("normalization", "kind"), [(Normalization.ROW, "DoRA"), (Normalization.NONE, "LoRA")])
def test_which_adapters_keep_norms_and_which_programs_refuse_them(
    loaded: LoadedModel, content: ExportContent, plan: EditPlan, normalization: Normalization, kind: str
) -> None:
    text = card(loaded, replace(content, plan=replace(plan, normalization=normalization)), adapter=True)
    assert f"The folder is a {kind} adapter" in text
    assert kind.lower() in ModelCard(text).data.to_dict()["tags"]
    assert ("vLLM" in text) == (kind == "DoRA")


def test_local_base_model_is_not_claimed_to_be_on_the_hub(loaded: LoadedModel, content: ExportContent) -> None:
    data = ModelCard(card(loaded, content)).data.to_dict()
    assert "base_model" not in data
    assert "license" not in data


def test_adjustments_are_named(loaded: LoadedModel, content: ExportContent) -> None:
    assert "No other weights were touched" in card(loaded, content)
    text = card(loaded, replace(content, adjustments=("Only two heads were edited.", "Biases move the stream.")))
    assert "Only two heads were edited.\n\nBiases move the stream." in text
    assert "No other weights were touched" not in text


def test_what_how_strongly_and_what_was_measured(loaded: LoadedModel, content: ExportContent) -> None:
    text = card(loaded, content)
    assert "| attention | 1.250 | 0.750 | 0.100 | 0.400 | 2 to 4 of 5 |" in text
    assert "| mlp | 0.875 | 0.500 | 0.000 | 0.600 | 0 to 4 of 5 |" in text
    assert "relative depth 0.500" in text
    assert table(tables.scores(content.scores)) in text
    assert "| refusals | 97/100 | 3/100 (95 %: 1.0 to 8.5) | 100 |" in text
    assert "Answers: greedy ones of at most 30 tokens, counted as `refusals`" in text
    assert "640 positions" in text
    assert "Responsible use" in text
    assert text.isascii()
    assert "None" not in text


def test_scope_and_unknown_scores_and_none(loaded: LoadedModel, content: ExportContent, plan: EditPlan) -> None:
    per_layer = replace(plan, scope=Scope.LAYER, direction_position=None)
    text = card(loaded, replace(content, plan=per_layer, scores=Scores((WORDS,), content.scores.kl)))
    assert "Each edited layer has its own direction" in text
    assert "| words | 120.5 | 91.2 | 40 |" in text
    assert "Words: words, mean over greedy answers of at most 120 tokens; less is a stronger edit." in text
    assert "Nothing was measured" in card(loaded, replace(content, scores=None))


def test_several_behaviours_and_what_their_packs_say_of_them(loaded: LoadedModel, content: ExportContent) -> None:
    (refusals,), kl = content.scores.behaviors, content.scores.kl
    text = card(
        loaded,
        replace(
            content,
            behaviors=("refusal", "verbosity"),
            descriptions=("It declines less.", "It says less."),
            scores=Scores((refusals, WORDS), kl),
        ),
    )
    assert {"refusal", "verbosity"} <= set(ModelCard(text).data.to_dict()["tags"])
    assert "The directions of the behaviours `refusal` and `verbosity` in the residual stream were reduced" in text
    assert "It declines less.\n\nIt says less." in text
    rows = [line.split(" | ")[0] for line in text[text.index("| Measure") :].splitlines()[2:]]
    assert rows[:3] == ["| refusals", "| words", "| KL in nats, over answers"]
    one = card(loaded, content)
    assert "The direction of the behaviour `refusal` in the residual stream was reduced" in one
    assert "They were found" not in one


def test_what_is_missing_of_an_amount_is_said(loaded: LoadedModel, content: ExportContent) -> None:
    missing = replace(WORDS, name="missing_words")
    text = card(loaded, replace(content, goal="strengthen", scores=Scores((missing,), content.scores.kl)))
    assert "Missing words: words, what is missing of the most that is counted, mean over" in text


def test_a_plug_ins_count_is_not_called_a_classifiers(loaded: LoadedModel, content: ExportContent) -> None:
    puns = Score("puns", 3.0, 100, 40.0, AnswerDetails(30))
    text = card(loaded, replace(content, scores=Scores((puns,), content.scores.kl)))
    assert "| puns | 40/100 | 3/100 (95 %: 1.0 to 8.5) | 100 |" in text
    assert "Answers: greedy ones of at most 30 tokens, counted as `puns`; fewer is a stronger edit." in text
    assert "classifier" not in text


def test_what_the_model_can_still_do() -> None:
    text = capability_section(capability())
    assert text.startswith("## What the model can still do\n\n")
    assert "| **overall** | 2 | 100.0 % | 50.0 % | -50.0 (" in text
    assert "| `high_school_computer_science` | 2 | 100.0 % |" in text
    assert "questions of `cais/mmlu` with four choices, after 3 worked examples" in text
    assert "Answers that became wrong: 1, right: 0 (exact McNemar test: p = 1; a difference of" in text
    assert "the first 20 items of each task" in text
    assert "| `arc_easy` | `acc_norm, higher is better` | 20 | 0.5000 +- 0.1000 |" in text
    assert text.isascii()


def test_what_is_not_known_of_abilities_is_not_mentioned() -> None:
    questions, whole = capability().questions, capability()
    assert capability_section(replace(whole, questions=None, benchmarks=())) == ""
    assert "Multiple-choice" not in capability_section(replace(whole, questions=None))
    assert "Harness" not in capability_section(replace(whole, benchmarks=()))
    assert "the first" not in capability_section(replace(whole, limit=None))
    fewer = replace(whole, questions=replace(questions, examples=(("a", 3), ("b", 1)), source="x` | y\n# z"))
    assert "of `x' / y # z` with four choices, after 1 to 3 worked examples" in capability_section(fewer)


def test_loading_instructions(loaded: LoadedModel, content: ExportContent) -> None:
    assert "PeftModel" not in card(loaded, content)
    adapter = card(replace(loaded, commit="abc123"), content, Origin("some/base-model"), adapter=True)
    assert 'from_pretrained("some/base-model", revision="abc123", dtype="auto")' in adapter
    assert "PeftModel.from_pretrained(base" in adapter
    local = card(replace(loaded, name="demo"), content, adapter=True)
    assert 'from_pretrained("path/to/the/base/model", dtype="auto")' in local


def test_trial_is_numbered_as_the_console_does(loaded: LoadedModel, content: ExportContent) -> None:
    assert "trial 18 of a search" in card(loaded, content)
    assert "trial" not in card(loaded, replace(content, trial=None))


def test_search_on_quantised_weights_is_said(loaded: LoadedModel, content: ExportContent) -> None:
    assert "quantised" not in card(loaded, content)
    searched = Scores((Score("refusals", 2.0, 100, 95.0),), Score("kl", 0.05, 80, 0.0))
    text = card(loaded, replace(content, search_quantization="bnb_4bit", search_scores=searched))
    assert "quantised with `bnb_4bit`" in text
    assert "refusals 2/100, KL 0.0500." in text
    assert "| refusals | 97/100 | 3/100" in text


def test_strange_names_cannot_break_out(loaded: LoadedModel, content: ExportContent) -> None:
    text = card(replace(loaded, name="a`b|c\n# big headline"), content)
    assert "\n# big headline" not in text
    assert "`a'b/c # big headline`" in text


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "LICENSE").write_text("the licence")
    (folder / "USE_POLICY.md").write_text("the policy")
    return folder


def test_licence_of_a_local_base(loaded: LoadedModel, base_folder: Path, tmp_path: Path) -> None:
    (base_folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Base\n")
    origin = find_origin(replace(loaded, source=str(base_folder)))
    assert (origin.hub_id, origin.license, origin.language) == (None, "apache-2.0", "en")
    target = tmp_path / "copy"
    target.mkdir()
    copy_legal_files(origin, target)
    assert names_in(target) == {"LICENSE", "USE_POLICY.md"}
    assert (target / "LICENSE").read_text() == "the licence"


def test_licence_from_the_hub_cache(loaded: LoadedModel, base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base_folder / "README.md").write_text("---\nlicense: mit\n---\n")
    asked = []

    def cached(repository: str, name: str, revision: str) -> str | None:
        asked.append((repository, revision))
        return str(base_folder / name) if (base_folder / name).exists() else None

    monkeypatch.setattr(origin_module, "try_to_load_from_cache", cached)
    origin = find_origin(replace(loaded, source="some/base-model", commit="abc123"))
    assert (origin.hub_id, origin.license) == ("some/base-model", "mit")
    assert set(asked) == {("some/base-model", "abc123")}


def test_no_card(loaded: LoadedModel) -> None:
    assert find_origin(loaded) == Origin(None)


def test_damaged_card_is_reported(loaded: LoadedModel, base_folder: Path, events: list) -> None:
    (base_folder / "README.md").write_text("---\n{]\n---\n")
    origin = find_origin(replace(loaded, source=str(base_folder)))
    assert origin.license is None
    assert len(origin.legal_files) == 2
    assert any(isinstance(event, Warned) and "README.md" in event.message for event in events)


def test_a_strengthened_behaviour_is_not_called_removed(loaded: LoadedModel, content: ExportContent) -> None:
    scores = Scores((Score("without_refusal", 3.0, 100, 40.0, AnswerDetails(30)),), content.scores.kl)
    text = card(loaded, replace(content, goal="strengthen", scores=scores, search_quantization="bnb_4bit"))
    assert "was strengthened in the weights" in text
    assert "| answers without refusal | 40/100 | 3/100 (95 %: 1.0 to 8.5) | 100 |" in text
    assert "counted as `answers without refusal`; fewer is a stronger edit" in text
    assert "declines more requests than the original model" in text
    for word in ("reduced", "removes or weakens", "| refusals"):
        assert word not in text
