"""What a question about a network is made of: the words of the YAML, and terms that read them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from search_space.architecture import Architecture, Stage, paper_branches
from search_space.families import FAMILIES, HEAD_KINDS, STEM_KINDS, STRUCTURES, TRANSITION_KINDS

Kind = Literal["number", "text", "placement", "branches", "truth"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A word of the YAML: what its values are, and how a stage or a network gives one."""

    kind: Kind
    read: Callable[[Any], Any]
    words: tuple[str, ...] = ()
    """The values of a text."""


def _number(name: str, *, none: object = None) -> Key:
    """Give a key of numbers; the value that is `none` in the YAML becomes None."""

    def read(owner: Any) -> Any:
        value = getattr(owner, name)
        return None if value == none else value

    return Key(kind="number", read=read)


def _text(name: str, words: Sequence[str]) -> Key:
    return Key(kind="text", read=operator.attrgetter(name), words=tuple(words))


def _branches(stage: Stage) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Give the branches of a stage, and whether they are the published ones of its kernel."""
    pairs = tuple(sorted(stage.dilations))
    return pairs, bool(pairs) and pairs == paper_branches(stage.kernel)


def _ffn_ratio(stage: Stage) -> float:
    """Give the hidden over the outer width as built: a hidden width of its own wins."""
    return stage.ffn_ratio if stage.ffn_hidden is None else stage.ffn_hidden / stage.width


STAGE_KEYS = {
    "kernel": _number("kernel"),
    "depth": _number("depth"),
    "width": _number("width"),
    "placement": Key(kind="placement", read=operator.attrgetter("placement")),
    "dilations": Key(kind="branches", read=_branches),
    "structure": _text("structure", STRUCTURES),
    "se_ratio": _number("se_ratio"),
    "ffn_ratio": Key(kind="number", read=_ffn_ratio),
    "ffn_hidden": _number("ffn_hidden"),
    "layer_scale": _number("layer_scale", none=0.0),
    "small_kernel": _number("small_kernel"),
    "dw_ratio": _number("dw_ratio"),
    "strip": _number("strip"),
}
NETWORK_KEYS = {
    "depth": _number("depth"),
    "block": _text("block", tuple(FAMILIES)),
    "stem.kind": _text("stem.kind", STEM_KINDS),
    "stem.stride": Key(kind="number", read=operator.attrgetter("stem.stride")),
    "transition": _text("transition", TRANSITION_KINDS),
    "head": _text("head", HEAD_KINDS),
    "width_factor": _number("width_factor"),
    "weights_sparsity": _number("weights_sparsity"),
}
ABSENT = object()
"""What a stage that is not there gives: every comparison with it is false."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A part of a question: one value, or with `row` one for each of some stages."""

    kind: Kind
    read: Callable[[Architecture], Any]
    row: bool = False
    shared: bool = False
    """Compared in every stage at once."""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a text, or a list of such."""

    value: Any


SUMMARIES: dict[str, Callable[[list[Any]], Any]] = {"max": max, "min": min, "sum": sum}


def mapped(function: Callable[[Any], Any], value: Any, *, row: bool) -> Any:
    """Apply a function to a value, or to each of a row."""
    if row:
        return [function(one) for one in value]
    return ABSENT if value is ABSENT else function(value)


def summary(function: Callable[[list[Any]], Any], row: list[Any]) -> Any:
    """Summarise the numbers of some stages, without those that are `none`."""
    values = [value for value in row if value is not None]
    return function(values) if values else ABSENT


def applied(test: Callable[[list[Any]], bool], terms: Sequence[Term]) -> Term:
    """Test terms, stage by stage where one of them is a row; a missing stage fails the test."""

    def safe(values: list[Any]) -> bool:
        return all(value is not ABSENT for value in values) and test(values)

    return spread(safe, terms)


def combined(terms: Sequence[Term], function: Callable[[list[Any]], bool]) -> Term:
    """Join terms that are true or false by `any`, by `all`, or by another function of them."""
    return terms[0] if len(terms) == 1 and function is all else spread(function, terms)


def spread(function: Callable[[list[Any]], bool], terms: Sequence[Term]) -> Term:
    """Apply a function to one value of each term; a row goes stage by stage, the rest along."""
    if not any(term.row for term in terms):
        return Term(kind="truth", read=lambda a: function([term.read(a) for term in terms]))

    def read(architecture: Architecture) -> list[bool]:
        values = [term.read(architecture) for term in terms]
        length = min(len(v) for v, term in zip(values, terms, strict=True) if term.row)
        return [
            function([v[i] if t.row else v for v, t in zip(values, terms, strict=True)])
            for i in range(length)
        ]

    if any(term.row and not term.shared for term in terms):
        return Term(kind="truth", row=True, read=read)
    return Term(kind="truth", read=lambda a: all(read(a)))
