"""Reads the declared families: what a weight of a given name is."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from heretic.edits.writer import MLP
from heretic.models.decoder import submodule
from heretic.models.families import FAMILIES, GENERIC, POST_NORMS, Family, PostNormRule, WriterRule
from heretic.models.storage import linear_sizes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the declarations say about a weight.

    Attributes:
        component: Component that it belongs to if it writes the residual stream.
        inner: It is declared not to write the residual stream.
        declared: Some declaration knows it.
    """

    component: str
    inner: bool = False
    declared: bool = True


INNER = Verdict(MLP, inner=True)
UNDECLARED = Verdict(MLP, declared=False)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    expression = ""
    for segment in pattern.split("."):
        if segment == "**":
            expression += r"(?:[^.]+\.)*"
        else:
            expression += re.escape(segment).replace(r"\*", "[^.]*") + r"\."
    return re.compile(expression)


def matches(path: str, pattern: str) -> bool:
    """Tell whether a dotted path fits a pattern: `*` within one segment, `**` for any number of whole segments."""
    return _compiled(pattern).fullmatch(path + ".") is not None


def matches_any(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a dotted path fits one of the patterns."""
    return any(matches(path, pattern) for pattern in patterns)


def declared_family(model_types: tuple[str, ...]) -> Family:
    """Return the family that declares one of the model types, else GENERIC."""
    for family in FAMILIES:
        if not family.model_types.isdisjoint(model_types):
            return family
    return GENERIC


def component_of_weight(family: Family, layer: nn.Module, name: str) -> Verdict:
    """Look up what a weight is, by its path relative to the layer."""
    for pattern, projection in family.replaced:
        if matches(name, pattern) and _is_linear(layer, projection):
            return INNER
    return _verdict_by_name(family, GENERIC, name)


def component_of_constant(family: Family, path: str) -> str:
    """Return the component of a bias that belongs to no writer; MLP where nothing declares it."""
    return _component(family.constants, path) or MLP


def post_norms(layer: nn.Module, component: str, name: str) -> tuple[str, ...]:
    """Return the norms (paths in the layer) between a writer and the residual stream, from the writer outwards."""

    def applies(rule: PostNormRule) -> bool:
        return (
            rule.component == component
            and matches(name, rule.writers)
            and all(submodule(layer, path) is not None for path in rule.requires)
            and (not rule.layer_classes or type(layer).__name__ in rule.layer_classes)
        )

    norms = next((rule.norms for rule in POST_NORMS if applies(rule)), ())
    # Where an option is off, some families keep an identity in the norm's place.
    return tuple(norm for norm in norms if not isinstance(layer.get_submodule(norm), nn.Identity))


# Layers repeat the same names, and a list of experts repeats them hundreds of times more.
@lru_cache(maxsize=65536)
def _verdict_by_name(family: Family, generic: Family, name: str) -> Verdict:
    for declaration in (family, generic):
        if matches_any(name, declaration.inner):
            return INNER
        component = _component(declaration.writers, name)
        if component is not None:
            return Verdict(component)
    return UNDECLARED


def _component(rules: tuple[WriterRule, ...], name: str) -> str | None:
    return next((rule.component for rule in rules if matches_any(name, rule.patterns)), None)


def _is_linear(layer: nn.Module, path: str) -> bool:
    module = submodule(layer, path)
    return module is not None and linear_sizes(module) is not None
