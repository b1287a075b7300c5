import datasets
import pytest

from heretic.config.sections import PromptSpecification
from heretic.prompts.sources import load_prompt_set


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache"))


@pytest.fixture
def load():
    """Read a set as a run does; returns the user texts."""

    def read(dataset, **options):
        specification = PromptSpecification(dataset=str(dataset), **options)
        return [prompt.user for prompt in load_prompt_set("bad_prompts", specification, None).prompts]

    return read
