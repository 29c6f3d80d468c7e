"""Every key of a space in one table: what it may hold, and what where the YAML is silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search_space.axes import Axis, Choice, FloatRange, IntRange, Value, fixed
from search_space.errors import nearest, shown
from search_space.families import FAMILIES, HEAD_KINDS, STEM_KINDS, STRUCTURES, TRANSITION_KINDS

DEFAULT = "default"
"""Where the YAML is silent about branches: the published ones from K = 7 on, none below."""


class Unfit(ValueError):
    """A value that a key cannot hold; the text says what must hold, what was given, what to do."""

    def __init__(self, message: str, *, at: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.at = at
        """Path of the culprit inside the value, such as ("choice", 1); a message needs its line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One key of a stage or of the network."""

    read: Callable[[Any], Value]
    """From the plain YAML value to the value of the key; raises Unfit."""
    ranges: tuple[str, ...] = ()
    """Kinds of range (int, float) that may stand beside a choice."""
    default: Value | None = None
    """What holds where the YAML is silent; None means that the key must be given."""
    instead: str = ""
    """Of a key that takes no axis: what to write where several values are wanted."""


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Read an integer of the closed interval."""

    def read(given: Any) -> int:
        value = int(given) if isinstance(given, float) and given.is_integer() else given
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit(f"must be a whole number, got {shown(given)}")
        if not low <= value <= high:
            raise Unfit(
                f"must be from {low} to {high}, got {value}; nearest: {min(max(value, low), high)}"
            )
        return value

    return read


def odd(low: int, high: int) -> Callable[[Any], int]:
    """Read an odd integer of an interval with odd ends: odd kernels keep the map's size."""
    within = whole(low, high)

    def read(given: Any) -> int:
        value = within(given)
        if value % 2 == 0:
            raise Unfit(
                f"must be odd to keep the map size, got {value}; "
                f"nearest: {value - 1} or {value + 1}"
            )
        return value

    return read


def number(low: float, high: float, *, open_low: bool = False) -> Callable[[Any], float]:
    """Read a finite number of the interval; whole ones become int, so that 4 and 4.0 are one."""

    def read(given: Any) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise Unfit(f"must be a number, got {shown(given)}")
        if not low <= given <= high or (open_low and given == low):
            raise Unfit(
                f"must be {'above' if open_low else 'at least'} {low:g} and at most {high:g}, "
                f"got {given}"
            )
        return int(given) if float(given).is_integer() else float(given)

    return read


def word(*known: str) -> Callable[[Any], str]:
    """Read one of some names."""

    def read(given: Any) -> str:
        if isinstance(given, str) and given in known:
            return given
        names = f"must be one of: {', '.join(known)}, got {shown(given)}"
        hint = nearest(given, known) if isinstance(given, str) else ""
        raise Unfit(f"{names}; {hint}" if hint.startswith("did you mean") else names)

    return read


def none_or(read_some: Callable[[Any], Value]) -> Callable[[Any], Value]:
    """Read the word none, or what `read_some` reads."""

    def read(given: Any) -> Value:
        if given == "none":
            return "none"
        if given is None or isinstance(given, str | bool):
            raise Unfit(f"must be none or a number, got {shown(given)}")
        return read_some(given)

    return read


def letters(given: Any) -> str:
    """Read a placement: letters L and S."""
    if not isinstance(given, str) or not given or set(given) - set("LS"):
        raise Unfit(
            f"must be letters L (large kernel) and S (depthwise 3x3), got {shown(given)}; "
            "for example L, LS or LSS"
        )
    return given


def branches(given: Any) -> Value:
    """Read a set of branches: none, paper, or [k, r] pairs, which become a sorted tuple."""
    if isinstance(given, str):
        return word("none", "paper")(given)
    if not isinstance(given, list):
        raise Unfit(
            f"must be none, paper or a list of [kernel, dilation] pairs, got {shown(given)}"
        )
    pairs = []
    for pair in given:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or any(type(part) is not int for part in pair)
        ):
            raise Unfit(
                f"must hold [kernel, dilation] pairs of whole numbers, got {shown(pair)}; "
                "for example [[5, 1], [3, 2]]"
            )
        k, r = pair
        if k % 2 == 0 or not 1 <= k <= 151:
            raise Unfit(f"must hold branches of an odd kernel from 1 to 151, got {pair}")
        if not 1 <= r <= 75:
            raise Unfit(f"must hold branches of a dilation from 1 to 75, got {pair}")
        pairs.append((k, 1 if k == 1 else r))
    return tuple(sorted(pairs)) or "none"


STAGE_KEYS: dict[str, Key] = {
    "depth": Key(read=whole(1, 512), ranges=("int",)),
    "width": Key(read=whole(1, 16384), ranges=("int",)),
    "kernel": Key(read=odd(3, 151), ranges=("int",)),
    "placement": Key(read=letters, default="L"),
    "dilations": Key(read=branches, default=DEFAULT),
    "structure": Key(read=word(*STRUCTURES), default="se"),
    "se_ratio": Key(read=whole(1, 64), ranges=("int",), default=4),
    "ffn_ratio": Key(read=number(0, 64, open_low=True), ranges=("int", "float"), default=4),
    "ffn_hidden": Key(
        read=none_or(whole(1, 64 * 16384)),
        default="none",
        instead="for several widths write ffn_ratio: {choice: [...]}",
    ),
    "layer_scale": Key(
        read=none_or(number(0, 10, open_low=True)), ranges=("float",), default="none"
    ),
    "small_kernel": Key(read=none_or(odd(3, 151)), default=5),
    "dw_ratio": Key(read=number(0, 16, open_low=True), default=1),
    "strip": Key(read=none_or(odd(3, 151)), default=5),
}
"""Keys of a stage; they may also stand in `every_stage` and `shared`."""


def _stride(given: Any) -> int:
    if type(given) is not int or given not in (1, 2, 4):
        raise Unfit(f"must be 1, 2 or 4, got {shown(given)}")
    return given


NETWORK_KEYS: dict[str, Key] = {
    "block": Key(read=word(*FAMILIES), default="unireplknet"),
    "stem.kind": Key(read=word(*STEM_KINDS), default=DEFAULT),
    "stem.stride": Key(read=_stride, default=4),
    "transition": Key(read=word(*TRANSITION_KINDS), default=DEFAULT),
    "head": Key(read=word(*HEAD_KINDS), default=DEFAULT),
    "width_factor": Key(read=number(0, 16, open_low=True), default=1),
    "weights_sparsity": Key(read=number(0, 0.99), default=0),
}
"""Keys of the whole network."""


def families_of(key: str) -> frozenset[str]:
    """Give the families in which a key acts; all of them for a key that no family claims."""
    claiming = {
        name for name, family in FAMILIES.items() if key in family.stage_keys | family.network_keys
    }
    return frozenset(claiming or FAMILIES)


def read_axis(key: Key, given: Any) -> Axis:
    """Read the YAML value of a key: a scalar, or one axis.

    Raises:
        Unfit: the value is none that the key can hold.
    """
    if key.instead and isinstance(given, dict | list):
        raise Unfit(f"must be one value, not an axis, got {shown(given)}; {key.instead}")
    if isinstance(given, list):
        try:
            return fixed(key.read(given))
        except Unfit as error:
            raise Unfit(f"{error}; for several values write {{choice: [...]}}") from None
    if not isinstance(given, dict):
        return fixed(key.read(given))
    kinds = [name for name in given if name in _AXES]
    if len(kinds) != 1:
        names = ", ".join(map(shown, given)) or "nothing"
        raise Unfit(
            "must be a value or one axis: {choice: [...]}, {int: [low, high]} or "
            f"{{float: [low, high]}}, got {names}"
        )
    (kind,) = kinds
    if kind != "choice" and kind not in key.ranges:
        raise Unfit(f"must be a value or a choice, got a range of {kind}; write {{choice: [...]}}")
    read, options = _AXES[kind]
    for name in given:
        if name != kind and name not in options:
            hint = nearest(name, options) if options else "remove it"
            raise Unfit(f"unknown key {shown(name)} beside {kind}; {hint}", at=(name, "<key>"))
    return read(key, given)


def _choice(key: Key, given: dict[str, Any]) -> Axis:
    values = given["choice"]
    if not isinstance(values, list) or not values:
        raise Unfit(
            f"choice must be a list of at least one value, got {shown(values)}", at=("choice",)
        )
    read: list[Value] = []
    for index, value in enumerate(values):
        at = ("choice", index)
        if isinstance(value, dict):
            raise Unfit("choice must hold plain values, got another axis inside it", at=at)
        try:
            read.append(key.read(value))
        except Unfit as error:
            raise Unfit(str(error), at=at) from None
        if read.index(read[-1]) < index:
            raise Unfit(
                f"choice must hold each value once, got {shown(value)} twice; remove one", at=at
            )
    return Choice(tuple(read))


def _bounds(given: Any, kind: str) -> tuple[Any, Any]:
    if not isinstance(given, list) or len(given) != 2:
        raise Unfit(f"{kind} must be [low, high], got {shown(given)}", at=(kind,))
    return given[0], given[1]


def _log(given: dict[str, Any], low: float) -> bool:
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise Unfit(f"log must be true or false, got {shown(log)}", at=("log",))
    if log and low <= 0:
        raise Unfit(f"log needs low above 0, got low {low}", at=("log",))
    return log


def _int_range(key: Key, given: dict[str, Any]) -> Axis:
    bounds = _bounds(given["int"], "int")
    if any(type(bound) is not int for bound in bounds):
        raise Unfit(f"int must be two whole numbers, got {shown(list(bounds))}", at=("int",))
    low, high = bounds
    if low > high:
        raise Unfit(f"int needs low <= high, got low {low}, high {high}", at=("int",))
    step, log = given.get("step", 1), _log(given, low)
    if type(step) is not int or step < 1:
        raise Unfit(f"step must be a whole number of at least 1, got {shown(step)}", at=("step",))
    if "step" in given and log:
        raise Unfit("must have step or log, got both; remove one", at=("step",))
    if rest := (high - low) % step:
        nearest_highs = " or ".join(
            str(value) for value in (high - rest, high - rest + step) if value > low
        )
        raise Unfit(
            f"step must divide high - low = {high - low}, got {step}; "
            f"nearest high: {nearest_highs}",
            at=("step",),
        )
    axis = IntRange(low, high, step, log)
    # Ends and one step tell all: every rule on whole numbers here is an interval or a parity.
    for value in (low, min(low + step, high), high):
        try:
            key.read(value)
        except Unfit as error:
            raise Unfit(f"{error}; {axis.label()} holds {value}", at=("int",)) from None
    return axis


def _float_range(key: Key, given: dict[str, Any]) -> Axis:
    low, high = _bounds(given["float"], "float")
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise Unfit(f"float must be two numbers, got {shown(bound)}", at=("float",))
        key.read(bound)
    if low >= high:
        raise Unfit(f"float needs low < high, got low {low}, high {high}", at=("float",))
    return FloatRange(float(low), float(high), _log(given, low))


_AXES: dict[str, tuple[Callable[[Key, dict[str, Any]], Axis], tuple[str, ...]]] = {
    "choice": (_choice, ()),
    "int": (_int_range, ("step", "log")),
    "float": (_float_range, ("log",)),
}
"""Kinds of axis: how each is read, and what may stand beside it."""
