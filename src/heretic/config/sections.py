"""Every setting, one model per concern; the help, config.default.toml and the error messages are made from here.

Names are flat: the sections are mixins of one class, so a setting is called the same in Python, in config.toml, in the
environment and on the command line. Only pydantic is imported here, which keeps ``heretic --help`` fast.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from heretic.config.checks import (
    check_database_url,
    check_device,
    check_dtype,
    check_factors,
    check_profile,
    check_repository,
    check_revision,
    check_shares,
    check_size,
    check_text,
    check_weights,
    with_numbers,
    with_text_keys,
)

Text = Annotated[str, AfterValidator(check_text)]
Size = Annotated[str, AfterValidator(check_size)]


class Section(BaseModel):
    """Base of all sections; `heretic.config.settings.Settings`, which joins them, is frozen and strict."""

    title: ClassVar[str]
    """Heading in the help and in config.default.toml."""


class PromptSpecification(BaseModel):
    """Where one set of prompts comes from and how its prompts are shaped.

    A plain string stands for its dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dataset: Text = Field(
        description="Hub dataset id, folder written by save_to_disk, .txt/.jsonl/.csv/.parquet file, or bundled:NAME."
    )
    config: str | None = Field(default=None, description="Configuration (subset) of the dataset.", examples=["main"])
    revision: Annotated[str, AfterValidator(check_revision)] | None = Field(
        default=None, description="Branch, tag or commit on the hub.", examples=["main"]
    )
    split: str | None = Field(default=None, description="Split, with an optional slice.", examples=["train[:400]"])
    column: str | None = Field(default=None, description="Column that holds the text.", examples=["text"])
    prefix: str = Field(default="", description="Text put before every prompt.")
    suffix: str = Field(default="", description="Text put after every prompt.")
    system_prompt: str | None = Field(
        default=None,
        description="System prompt of this set instead of the general one; an empty string means none.",
        examples=["Answer briefly."],
    )
    streaming: bool = Field(default=False, description="Read a huge dataset row by row instead of downloading it.")
    limit: int | None = Field(default=None, ge=1, description="Use at most this many prompts.", examples=[400])


def _defaults_under(default: PromptSpecification) -> BeforeValidator:
    """Fill in what a partly given prompt set leaves open.

    Split, column and so on of the default describe the default's dataset, so they are used only where that is kept.
    """

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            value = {"dataset": value}
        if isinstance(value, dict) and value.get("dataset", default.dataset) == default.dataset:
            return {**default.model_dump(exclude_unset=True), **value}
        return value

    return BeforeValidator(fill)


_GOOD = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="train[:400]", column="text")
_BAD = PromptSpecification(dataset="mlabonne/harmful_behaviors", split="train[:320]", column="text")
_GOOD_EVALUATION = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="test[:100]", column="text")
_BAD_EVALUATION = PromptSpecification(dataset="mlabonne/harmful_behaviors", split="test[:100]", column="text")
_GOOD_HELD_OUT = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="test[100:200]", column="text")
_BAD_HELD_OUT = PromptSpecification(dataset="mlabonne/harmful_behaviors", split="train[320:416]", column="text")
_HELPFUL = PromptSpecification(dataset="mlabonne/harmless_alpaca", split="train[400:600]", column="text")
_UNHELPFUL = PromptSpecification(dataset="allenai/c4", config="en", split="train[:200]", column="text", streaming=True)
# Five questions of each of its 57 subjects.
_SACRED = PromptSpecification(dataset="cais/mmlu", config="all", split="dev", column="question", streaming=True)
_SACRED_BASELINE = PromptSpecification(
    dataset="allenai/c4", config="en", split="validation[:285]", column="text", streaming=True
)


class ModelSection(Section):
    """Which model, and how it is loaded."""

    title = "Model"

    model: Text | None = Field(
        default=None,
        description="Model to edit: hub id, local folder, GGUF file, or 'demo' for the bundled toy model.",
        examples=["demo"],
    )
    evaluate_model: Text | None = Field(
        default=None,
        description="Only measure this already edited model against --model; nothing is searched.",
        examples=["path/to/edited-model"],
    )
    model_revision: Annotated[str, AfterValidator(check_revision)] | None = Field(
        default=None, description="Branch, tag or commit of the model on the hub.", examples=["main"]
    )
    dtypes: list[Annotated[str, AfterValidator(check_dtype)]] = Field(
        default=["auto", "float16", "float32"],
        min_length=1,
        description="Number formats to try in this order; the first that generates finite numbers is used.",
    )
    quantization: Literal["none", "bnb_4bit", "bnb_8bit"] = Field(
        default="none", description="Load the weights quantised with bitsandbytes to save memory."
    )
    device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto",
        description="Device to compute on: cpu, cuda, cuda:1, xpu, mps, npu, ...; auto takes the best one there is.",
    )
    device_map: Text | dict[str, str | int] = Field(
        default="auto", description="How accelerate spreads the layers over devices: a strategy or a table."
    )
    max_memory: Annotated[dict[str, Size], BeforeValidator(with_text_keys)] | None = Field(
        default=None,
        description='Memory that each device may use for weights, e.g. {"0": "20GB", "cpu": "64GB"}.',
        examples=[{"0": "20GB", "cpu": "64GB"}],
    )
    trust_remote_code: bool = Field(default=False, description="Let the model run Python code from its repository.")
    allow_pickle: bool = Field(
        default=False,
        description="Also load pickled weights (pytorch_model.bin), which may run code when they are opened, where "
        "there are no safetensors.",
    )
    verify: bool = Field(
        default=True, description="Compare the files of a model that has a manifest with it before it is loaded."
    )
    compile: bool = Field(default=False, description="Compile the model with torch.compile before measuring.")


class PromptSection(Section):
    """Which prompts the direction is found and measured with."""

    title = "Prompts"

    direction: list[Text] = Field(
        default=["refusal"],
        min_length=1,
        description="The behaviour: a bundled pack such as refusal or verbosity ('heretic behaviors' lists them), or a "
        "pack's TOML file; several are edited together. Its prompts are used where no others are set below.",
    )
    system_prompt: str = Field(
        default="You are a helpful assistant.",
        description="System prompt of every request; an empty string means none.",
    )
    good_prompts: Annotated[PromptSpecification, _defaults_under(_GOOD)] = Field(
        default=_GOOD, strict=False, description="Prompts without the behaviour, to find the direction."
    )
    bad_prompts: Annotated[PromptSpecification, _defaults_under(_BAD)] = Field(
        default=_BAD, strict=False, description="Prompts that show the behaviour, to find the direction."
    )
    good_evaluation_prompts: Annotated[PromptSpecification, _defaults_under(_GOOD_EVALUATION)] = Field(
        default=_GOOD_EVALUATION, strict=False, description="Prompts without the behaviour, to measure the damage (KL)."
    )
    bad_evaluation_prompts: Annotated[PromptSpecification, _defaults_under(_BAD_EVALUATION)] = Field(
        default=_BAD_EVALUATION,
        strict=False,
        description="Prompts that show the behaviour, to measure how much of it is left.",
    )
    good_held_out_prompts: Annotated[PromptSpecification, _defaults_under(_GOOD_HELD_OUT)] = Field(
        default=_GOOD_HELD_OUT,
        strict=False,
        description="Prompts without the behaviour that are read only to confirm the chosen trial.",
    )
    bad_held_out_prompts: Annotated[PromptSpecification, _defaults_under(_BAD_HELD_OUT)] = Field(
        default=_BAD_HELD_OUT,
        strict=False,
        description="Prompts that show the behaviour and are read only to confirm the chosen trial.",
    )
    helpful_prompts: Annotated[PromptSpecification, _defaults_under(_HELPFUL)] = Field(
        default=_HELPFUL, strict=False, description="Requests that are answered helpfully, for helpfulness."
    )
    unhelpful_prompts: Annotated[PromptSpecification, _defaults_under(_UNHELPFUL)] = Field(
        default=_UNHELPFUL, strict=False, description="Web text that asks for nothing, for helpfulness."
    )
    sacred_prompts: Annotated[PromptSpecification, _defaults_under(_SACRED)] = Field(
        default=_SACRED, strict=False, description="Questions of knowledge and reasoning, for sacred."
    )
    sacred_baseline_prompts: Annotated[PromptSpecification, _defaults_under(_SACRED_BASELINE)] = Field(
        default=_SACRED_BASELINE, strict=False, description="Plain text that asks for nothing, for sacred."
    )


class GenerationSection(Section):
    """How responses are generated."""

    title = "Generation"

    batch_size: int = Field(
        default=0, ge=0, le=65536, description="Prompts per forward pass; 0 measures which size is fastest."
    )
    max_batch_size: int = Field(default=128, ge=1, le=65536, description="Largest batch size that is tried.")
    max_response_length: int = Field(default=100, ge=1, le=65536, description="Tokens generated per response.")
    response_prefix: str | None = Field(
        default=None,
        description="Text that every response starts with. Not set: what all responses have in common is found. "
        "An empty string means none.",
        examples=["<think></think>"],
    )


class DirectionSection(Section):
    """How the behaviour's direction is found."""

    title = "Direction"

    extractor: Text | None = Field(
        default=None,
        description="Method that finds the direction: mean, pca, probe, ensemble (probe and pca), cones, leace, rdo "
        "(mean, refined by gradient), or a plug-in. Not set: rdo wherever gradients can be had, else mean.",
        examples=["mean"],
    )
    transforms: list[Text] = Field(
        default=["projected"],
        description="What is taken out of the directions, in this order: projected (their part along the mean of the "
        "good prompts), helpfulness (along the difference of unhelpful and helpful text), sacred (along directions of "
        "knowledge and reasoning), or a plug-in.",
    )
    n_directions: int = Field(default=1, ge=1, le=64, description="How many directions per layer pca extracts.")
    pca_alpha: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="How strongly pca and cones discount variation that good prompts show as well.",
    )
    use_eigenvalue_weights: bool = Field(
        default=True, description="Weaken the further directions of pca and cones according to their eigenvalues."
    )
    eigenvalue_weight_method: Literal["softmax", "proportional", "log"] = Field(
        default="softmax", description="How eigenvalues become weights."
    )
    eigenvalue_weight_temperature: float = Field(
        default=1.0, gt=0, le=1000, description="Temperature of the softmax weights; higher is more even."
    )
    direction_weights: Annotated[list[float], AfterValidator(check_weights), BeforeValidator(with_numbers)] = Field(
        default=[],
        description="Strengths of pca's directions relative to the edit's, first to last, instead of eigenvalue "
        "weights; empty for none.",
    )
    min_probe_accuracy: float = Field(
        default=0.65,
        ge=0,
        le=1,
        description="Share of held-out prompts that a layer's probe has to tell apart; layers below are left alone.",
    )
    ensemble_weights: Annotated[list[float], AfterValidator(check_shares), BeforeValidator(with_numbers)] = Field(
        default=[0.7, 0.3], description="Shares of the probe and of pca in ensemble."
    )
    n_concept_cones: int = Field(
        default=5, ge=1, le=64, description="Largest number of groups that cones divides the bad prompts into."
    )
    min_cone_size: int = Field(default=10, ge=1, le=1_000_000, description="Fewest prompts of such a group.")
    directions_per_cone: int = Field(default=2, ge=1, le=64, description="Directions of each group.")
    leace_regularization: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="What leace adds to the covariance, relative to its mean variance; large values give mean. Not "
        "set: each layer gets what separates held-out prompts best.",
        examples=[1.0],
    )
    rdo_steps: int = Field(default=30, ge=1, le=10_000, description="Gradient steps by which rdo refines directions.")
    rdo_prompts: int = Field(
        default=64, ge=1, le=100_000, description="Training prompts of each class that rdo looks at, at most."
    )
    rdo_max_kl: float = Field(
        default=0.05, gt=0, le=1000, description="Divergence, in nats, that rdo lets the edit it refines have."
    )
    n_sacred_directions: int = Field(
        default=5, ge=1, le=64, description="Directions of knowledge and reasoning that sacred takes out in a layer."
    )
    sacred_regularization: float = Field(
        default=0.1, ge=0, le=1000, description="How much of them sacred leaves in; 0 takes them out wholly."
    )
    sacred_overlap_threshold: float = Field(
        default=0.3, ge=0, le=1, description="Overlap of a direction with them above which sacred warns."
    )
    layers: Literal["all", "discriminative"] = Field(
        default="all",
        description="Which layers are edited; discriminative: those where the two classes lie on both sides of zero.",
    )
    direction_source: Literal["search", "cosmic"] = Field(
        default="search",
        description="Which direction a layer loses: what the search finds best, or everywhere that of the layer which "
        "COSMIC scores best by residuals alone.",
    )
    iterative_rounds: int = Field(
        default=1, ge=1, le=16, description="Extract again from the edited model, so often in all, and edit both."
    )
    min_direction_magnitude: float = Field(
        default=0.1,
        ge=0,
        le=1000,
        description="Share of the first round's class difference that a further round must find.",
    )
    max_kl_per_round: float = Field(
        default=0.5, ge=0, le=1000, description="Divergence, in nats, that a further round may add at full strength."
    )
    save_directions: Text | None = Field(
        default=None, description="Also write the directions to this safetensors file.", examples=["out.safetensors"]
    )
    load_directions: list[Text] = Field(
        default=[],
        description="Use the directions in this file instead of finding them; of several files, what all of them span.",
    )
    load_directions_weights: Annotated[list[float], AfterValidator(check_factors), BeforeValidator(with_numbers)] = (
        Field(
            default=[],
            description="Strength of each file of load_directions relative to the others; empty for the same.",
        )
    )


class EditSection(Section):
    """How the weights are changed."""

    title = "Edit"

    goal: Literal["remove", "strengthen"] = Field(
        default="remove",
        description="Remove the behaviour, or strengthen it: the search then wants answers without it to become few.",
    )
    normalization: Literal["none", "row", "column"] = Field(
        default="row", description="Which norms of an edited weight matrix stay exactly as they were."
    )
    layer_profile: Annotated[list[list[float]], AfterValidator(check_profile)] = Field(
        default=[],
        description="Factors on the strength by relative depth, [from, to, factor] each; 1 elsewhere, empty for none, "
        "e.g. [[0, 0.4, 0.5], [0.4, 0.7, 1], [0.7, 1, 0.8]].",
    )
    cache_weights: bool = Field(
        default=True,
        description="Keep a copy of the editable weights in memory to undo edits; false reloads them from disk.",
    )
    use_activation_calibration: bool = Field(
        default=False, description="Edit layers more strongly the more active they are along their direction."
    )
    activation_percentile: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Which share of the bad prompts stays below a layer's activation in that calibration.",
    )
    activation_factor_min: float = Field(
        default=0.5, ge=0, le=100, description="Smallest factor of the activation calibration."
    )
    activation_factor_max: float = Field(
        default=2.0, gt=0, le=100, description="Largest factor of the activation calibration."
    )
    use_caa: bool = Field(
        default=False,
        description="Also move edited layers towards what the model answers instead of refuses; saved as biases, which "
        "not every model class has.",
    )
    caa_strength: float = Field(
        default=0.3, gt=0, le=100, description="How far, in mean differences between answered and refused bad prompts."
    )
    caa_overlap_threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Leave out layers where that direction's cosine with the removed one is larger (either sign).",
    )
    use_circuit_ablation: bool = Field(
        default=False, description="Edit only the attention heads that carry the behaviour, and nothing else."
    )
    n_refusal_circuits: int = Field(default=20, ge=1, le=100_000, description="How many attention heads at most.")


class EvaluationSection(Section):
    """How an edited model is measured."""

    title = "Evaluation"

    refusal_markers: list[Text] = Field(
        default=[], description="Phrases that mark a refusal; they replace the built-in list unless empty."
    )
    refusal_detection_mode: Literal["strict", "moderate", "lenient"] = Field(
        default="lenient",
        description="What counts as a refusal: strict only plain ones, moderate also soft ones, lenient also evasions.",
    )
    refusal_check_tokens: int = Field(
        default=30, ge=1, le=65536, description="Response tokens that are searched for refusal markers."
    )
    use_neural_refusal_detection: bool = Field(
        default=False, description="Let a classifier read every answer in which no refusal marker is found."
    )
    neural_detection_model: Text = Field(
        default="facebook/bart-large-mnli",
        description="Hub id or folder of that classifier: a natural language inference model, or one trained on "
        "refusals.",
    )
    neural_detection_threshold: float = Field(
        default=0.5, gt=0, le=1, description="Probability from which the verdict of a classifier or judge is yes."
    )
    neural_detection_batch_size: int = Field(
        default=32, ge=1, le=65536, description="Texts per forward pass of the classifier or judge."
    )
    neural_detection_device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto", description="Device of the classifier or judge; auto takes the one that the model is loaded to."
    )
    measure_with: Literal["pack", "classifier", "judge"] = Field(
        default="pack",
        description="What measures behaviours: what their pack says (words, marks), or, of packs with hypotheses, that "
        "classifier or a judge, which count the answers of which a hypothesis is true.",
    )
    judge_model: Text | None = Field(
        default=None,
        examples=["Qwen/Qwen3-4B-Instruct-2507"],
        description="Hub id or folder of a chat model that is asked about every answer, as a judge.",
    )
    confirm: bool = Field(
        default=True,
        description="Measure the chosen trial once more on held-out prompts, with longer answers, before it is saved.",
    )
    held_out_tokens: int = Field(
        default=200, ge=1, le=65536, description="Response tokens of that confirmation, at most."
    )
    kl_mode: Literal["sequence", "first"] = Field(
        default="sequence", description="Compare predictions over the unedited model's response, or its first token."
    )
    kl_tokens: int = Field(
        default=30, ge=1, le=65536, description="Response tokens that are compared where the KL mode is sequence."
    )


class ValidationSection(Section):
    """What else is measured of the unedited and of the chosen edited model: what they are able to do."""

    title = "Validation"

    enable_validation: bool = Field(
        default=False,
        description="Also let the unedited and the chosen edited model answer multiple-choice questions, and compare.",
    )
    mmlu_dataset: Text = Field(
        default="cais/mmlu",
        description="Where these come from: a hub dataset built like MMLU, a .jsonl file, or "
        "bundled:capability/multiple_choice, which also stands in for the default where the hub cannot be reached.",
    )
    mmlu_categories: list[Text] = Field(
        default=[],
        description="Categories of questions (subjects of MMLU); empty for 12 subjects of MMLU, or for all of a file.",
    )
    mmlu_samples_per_category: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Questions of each category, drawn by the seed; all where there are fewer.",
    )
    mmlu_few_shot: int = Field(
        default=3, ge=0, le=100, description="Worked examples before every question, out of its category."
    )
    benchmarks: list[Text] = Field(
        default=[],
        description="Also run these tasks of the Language Model Evaluation Harness on both models, e.g. "
        "hellaswag,arc_easy; needs the package lm_eval.",
    )
    benchmark_limit: int | None = Field(
        default=None, ge=1, description="Only the first so many items of each task (and subtask).", examples=[200]
    )


class SearchSection(Section):
    """The search for the best edit."""

    title = "Search"

    n_trials: int = Field(default=200, ge=1, le=1_000_000, description="Number of edits to try, resumed ones included.")
    n_startup_trials: int = Field(
        default=20, ge=0, le=1_000_000, description="Random trials before the search learns from results."
    )
    seed: int | None = Field(
        default=None, ge=0, le=2**32 - 1, description="Seed that makes a run repeatable.", examples=[42]
    )
    gradient_seeding: bool = Field(
        default=False,
        description="Start the search from strengths found by gradient: as little divergence and as few first tokens "
        "of the behaviour on training prompts as possible; further trials vary these.",
    )
    gradient_seeding_starts: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="How many such starts, from little divergence to few first tokens of the behaviour.",
    )
    gradient_seeding_steps: int = Field(
        default=12, ge=1, le=10_000, description="Gradient steps for each start; twice as many for the first."
    )
    gradient_seeding_prompts: int = Field(
        default=24, ge=1, le=65536, description="Good and bad training prompts that gradient seeding looks at."
    )
    optimization_mode: Literal["multi", "single"] = Field(
        default="multi",
        description="Minimise behaviour and KL as two numbers, with a front to choose from, or as one weighted sum.",
    )
    kl_weight: float = Field(
        default=1.0,
        ge=0,
        le=1000,
        description="Weight of one nat of KL against all of the behaviour, where the optimization mode is single.",
    )
    pruner: Literal["bound", "none"] = Field(
        default="bound",
        description="Where the optimization mode is single, stop trials that cannot become the best any more.",
    )
    use_warm_start_params: bool = Field(
        default=True,
        description="Begin with plans that worked on models of the same family, and keep the best ones of this search.",
    )
    use_shipped_profiles: bool = Field(
        default=False,
        description="Fill up with shipped plans for the family where your own are too few; where this was measured, "
        "searches were no better for it.",
    )
    warm_start_n_trials: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="How many trials begin with such plans; your own come before shipped ones.",
    )
    profile_store: Text | None = Field(
        default=None,
        description="TOML file that your best plans are kept in. Not set: heretic/profiles.toml in the folder for "
        "configuration (~/.config).",
        examples=["profiles.toml"],
    )
    engine: Literal["batched", "inplace"] = Field(
        default="batched",
        description="Measure edits on what the weights put out, several to a batch, or in the weights one by one.",
    )
    candidates: int = Field(
        default=0, ge=0, le=256, description="Edits measured in one batch; 0 chooses by measured throughput."
    )
    storage: Annotated[str, AfterValidator(check_database_url)] = Field(
        default="sqlite:///heretic_study.db", description="Database URL of the study; a second run resumes it."
    )
    study_name: Text = Field(default="heretic_study", description="Name of the study in the database.")


class OutputSection(Section):
    """What happens with the result."""

    title = "Result"

    auto_select: bool = Field(default=False, description="Choose a trial and save it without asking.")
    auto_select_path: Text | None = Field(
        default=None, description="Folder that the automatically chosen model is saved to.", examples=["edited-model"]
    )
    save_format: Literal["merged", "adapter"] = Field(
        default="merged", description="Save the whole model, or only the edit as a PEFT adapter."
    )
    report: bool = Field(default=True, description="Also write a report beside every saved folder; see heretic report.")
    max_shard_size: Size = Field(default="5GB", description="Largest size of one weight file.")
    hf_upload: Annotated[str, AfterValidator(check_repository)] | None = Field(
        default=None,
        description="Hub repository that the chosen model is uploaded to; the token comes from the hub's own login.",
        examples=["name/edited-model"],
    )
    hf_private: bool = Field(default=False, description="Make the uploaded repository private.")
    verbose: bool = Field(default=False, description="Show details, and prompts with their responses.")


class WatchSection(Section):
    """How a run is watched; nothing of this changes what is measured."""

    title = "Watching"

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least important messages that are shown and logged; debug adds speed and memory of every batch.",
    )
    log_file: Text | None = Field(
        default=None, description="Also append every step to this file, as JSON lines.", examples=["heretic.log"]
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Serve metrics for Prometheus on this port.", examples=[9464]
    )
    metrics_address: Text = Field(
        default="127.0.0.1", description="Address that they are served on; 0.0.0.0 lets other machines read them."
    )
    metrics_file: Text | None = Field(
        default=None,
        description="Also write the metrics to this file after every batch of trials, for node_exporter.",
        examples=["heretic.prom"],
    )


SECTIONS: tuple[type[Section], ...] = (
    ModelSection,
    PromptSection,
    GenerationSection,
    DirectionSection,
    EditSection,
    EvaluationSection,
    ValidationSection,
    SearchSection,
    OutputSection,
    WatchSection,
)
"""All sections, in the order of the help."""
