"""Python expressions as data, and their layout: as ruff leaves them, at 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 100
"""Columns of a line."""
INDENT = 4
CLOSING = {"(": ")", "[": "]"}


@dataclass(frozen=True, slots=True)
class Call:
    """A call, or without a head a literal: `head(item, item)`, `(item, item)`, `[item, item]`."""

    head: str
    items: tuple[Item, ...]
    opening: str = "("


@dataclass(frozen=True, slots=True)
class Keyword:
    """An argument by name: `name=value`."""

    name: str
    value: Expression


Expression = Call | str
"""A call, a literal of several items, or what never breaks: a name, a number, a pair of numbers."""

Item = Call | Keyword | str


def call(head: str, *items: Expression, **named: Expression) -> Call:
    """Make a call with positional arguments, then those by name."""
    return Call(head, (*items, *(Keyword(name, value) for name, value in named.items())))


def laid_out(item: Item, *, indent: int = 0, before: str = "", after: str = "") -> list[str]:
    """Give the lines of `before` + item + `after`, the first at `indent` columns.

    In one line where it fits; else the arguments of the call in a line of their own; else each in
    its own, with a comma behind the last of several. The items of a literal never share a line of
    their own.
    """
    if isinstance(item, Keyword):
        return laid_out(item.value, indent=indent, before=f"{before}{item.name}=", after=after)
    margin = " " * indent
    whole = f"{margin}{before}{_flat(item)}{after}"
    if isinstance(item, str) or len(whole) <= WIDTH:
        return [whole]
    lines = [f"{margin}{before}{item.head}{item.opening}"]
    inner = f"{margin}{' ' * INDENT}{_flat_items(item.items)}"
    if item.head and len(inner) <= WIDTH:
        lines.append(inner)
    else:
        comma = "" if item.head and len(item.items) == 1 else ","
        for one in item.items:
            lines += laid_out(one, indent=indent + INDENT, after=comma)
    return [*lines, f"{margin}{CLOSING[item.opening]}{after}"]


def pairs(values: Sequence[Sequence[int]]) -> Call:
    """Write a tuple of pairs."""
    return Call("", tuple(str(tuple(pair)) for pair in values))


def _flat(item: Item) -> str:
    if isinstance(item, Keyword):
        return f"{item.name}={_flat(item.value)}"
    if isinstance(item, str):
        return item
    single = "," if not item.head and item.opening == "(" and len(item.items) == 1 else ""
    return f"{item.head}{item.opening}{_flat_items(item.items)}{single}{CLOSING[item.opening]}"


def _flat_items(items: Sequence[Item]) -> str:
    return ", ".join(map(_flat, items))
