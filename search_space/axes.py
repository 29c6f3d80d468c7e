"""Axes: the values that one key of a space may take."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Value = int | float | str | tuple[tuple[int, int], ...]
"""What a key may hold; `none` is text, a set of branches a tuple of (k, r) pairs."""


class Suggest(Protocol):
    """What we ask of an Optuna trial, or of anything that stands in for one."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Pick one of `choices`."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Pick an integer of the closed interval."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Pick a number of the closed interval."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values; a fixed value is a choice of one."""

    values: tuple[Value, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.values)

    def contains(self, value: Value) -> bool:
        """Whether the axis can give this value."""
        return value in self.values

    def suggest(self, trial: Suggest, name: str) -> Value:
        """Draw one value; Optuna sees a string where the value is a set of branches."""
        keys = [text_key(value) for value in self.values]
        key = trial.suggest_categorical(name, keys)
        return self.values[keys.index(key)]

    def narrowed(self, options: Sequence[Value]) -> Choice:
        """Give the axis that holds only some of the values."""
        return Choice(tuple(options))

    def label(self) -> str:
        """Write the axis as the YAML does."""
        texts = ", ".join(str(text_key(value)) for value in self.values)
        return texts if self.size == 1 else f"{{choice: [{texts}]}}"


@dataclass(frozen=True, slots=True)
class IntRange:
    """Integers low, low + step, ..., high; with `log`, every integer, even in the logarithm."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    @property
    def values(self) -> tuple[int, ...]:
        """All values, ascending."""
        return tuple(range(self.low, self.high + 1, self.step))

    @property
    def size(self) -> int:
        """Number of values."""
        return (self.high - self.low) // self.step + 1

    def contains(self, value: Value) -> bool:
        """Whether the axis can give this value."""
        if not isinstance(value, int) or not self.low <= value <= self.high:
            return False
        return (value - self.low) % self.step == 0

    def suggest(self, trial: Suggest, name: str) -> Value:
        """Draw one value."""
        if self.log:
            return trial.suggest_int(name, self.low, self.high, log=True)
        return trial.suggest_int(name, self.low, self.high, step=self.step)

    def narrowed(self, options: Sequence[Value]) -> Axis:
        """Give the axis that holds only some of the values: a range where they are even."""
        low, high = options[0], options[-1]
        assert isinstance(low, int)
        assert isinstance(high, int)
        if tuple(options) == tuple(range(low, high + 1, self.step)) and high > low:
            return IntRange(low, high, self.step, self.log)
        return Choice(tuple(options))

    def label(self) -> str:
        """Write the axis as the YAML does."""
        tail = ", log: true" if self.log else f", step: {self.step}" if self.step > 1 else ""
        return f"{{int: [{self.low}, {self.high}]{tail}}}"


@dataclass(frozen=True, slots=True)
class FloatRange:
    """Any number of the closed interval; with `log`, even in the logarithm."""

    low: float
    high: float
    log: bool = False

    @property
    def size(self) -> float:
        """Infinite."""
        return math.inf

    def contains(self, value: Value) -> bool:
        """Whether the axis can give this value."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def suggest(self, trial: Suggest, name: str) -> Value:
        """Draw one value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def label(self) -> str:
        """Write the axis as the YAML does."""
        return f"{{float: [{self.low}, {self.high}]{', log: true' if self.log else ''}}}"


Axis = Choice | IntRange | FloatRange


def text_key(value: Value) -> int | float | str:
    """Give what Optuna sees for a value: itself, or the JSON of a set of branches.

    A category must be a plain value, and its JSON is one that people can read.
    """
    if isinstance(value, tuple):
        return json.dumps([list(branch) for branch in value], separators=(",", ":"))
    return value


def fixed(value: Value) -> Choice:
    """Give the axis of one value."""
    return Choice((value,))
