"""Refined directions survive with their study, whole or not at all."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from tests.unit.directions.direction_sets import random_set

from heretic.common.errors import StudyError
from heretic.search.stored_directions import (
    PART,
    StoredDirections,
    decoded,
    encoded,
    keep_directions,
    stored_attributes,
)


def some(seed: int = 0, width: int = 700) -> StoredDirections:
    directions = random_set(seed, layers=20, width=width)
    return StoredDirections(
        {"model": "a", "response prefix": ""}, replace(directions, reads=directions.vectors.clone())
    )


def test_a_study_gives_back_what_it_keeps(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    assert decoded(stored_attributes(url, "own"), "The study") is None
    assert not (tmp_path / "study.db").exists()
    study = optuna.create_study(storage=url, study_name="own")
    assert decoded(stored_attributes(url, "own"), "The study") is None
    assert decoded(stored_attributes(url, "other"), "The study") is None
    kept = some()
    keep_directions(study, url, kept)
    found = decoded(stored_attributes(url, "own"), "The study")
    assert found is not None
    assert found.identity == kept.identity
    assert found.directions.method == kept.directions.method
    for name, tensor in kept.directions.tensors().items():
        assert torch.equal(found.directions.tensors()[name], tensor)


def test_the_first_directions_stay(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=url, study_name="own")
    keep_directions(study, url, some(0))
    keep_directions(study, url, some(1))
    found = decoded(stored_attributes(url, "own"), "The study")
    assert found is not None
    assert torch.equal(found.directions.vectors, some(0).directions.vectors)


def test_no_attribute_is_longer_than_databases_take() -> None:
    attributes = encoded(some(width=3000))
    texts = [value for value in attributes.values() if isinstance(value, str)]
    assert len(texts) > 1
    assert max(map(len, texts)) == PART


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_damaged_directions_are_named(damage: str) -> None:
    attributes = encoded(some())
    first = next(name for name, value in attributes.items() if isinstance(value, str))
    if damage == "missing":
        del attributes[first]
    else:
        attributes[first] = "AAAA" + str(attributes[first])[4:]
    with pytest.raises(
        StudyError, match=r"The study keeps directions that are damaged, or .*; name another --study-name"
    ):
        decoded(attributes, "The study")
