"""Every key of a space: what it may hold, what it holds where the YAML is silent, in words of one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search_space.axes import Axis, Choice, FloatRange, IntRange, Value, fixed
from search_space.errors import nearest
from search_space.families import FAMILIES, HEAD_KINDS, STEM_KINDS, STRUCTURES, TRANSITION_KINDS

DEFAULT = "default"
"""Where the YAML is silent about branches: the published ones from K = 7 on, none below."""


class Unfit(ValueError):
    """A value that a key cannot hold; the text says what must hold, what was given, what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One key of a stage or of the network."""

    read: Callable[[Any], Value]
    """From the plain YAML value to the value of the key; raises Unfit."""
    ranges: tuple[str, ...] = ()
    """Kinds of range (int, float) that may stand beside a choice."""
    default: Value | None = None
    """What holds where the YAML is silent; None means that the key must be given."""


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Read an integer of the closed interval."""

    def read(given: Any) -> int:
        value = int(given) if isinstance(given, float) and given.is_integer() else given
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit(f"must be a whole number, got {given!r}")
        if not low <= value <= high:
            raise Unfit(
                f"must be from {low} to {high}, got {value}; nearest: {min(max(value, low), high)}"
            )
        return value

    return read


def odd(low: int, high: int) -> Callable[[Any], int]:
    """Read an odd integer of the closed interval: only odd kernels keep the map's size."""
    within = whole(low, high)

    def read(given: Any) -> int:
        if (
            isinstance(given, int)
            and not isinstance(given, bool)
            and given % 2 == 0
            and low < given < high
        ):
            raise Unfit(
                f"must be odd to keep the map size, got {given}; nearest: {given - 1} or {given + 1}"
            )
        value = within(given)
        if value % 2 == 0:
            raise Unfit(f"must be odd to keep the map size, got {value}; nearest: {value - 1}")
        return value

    return read


def number(low: float, high: float, *, open_low: bool = False) -> Callable[[Any], float]:
    """Read a finite number of the interval; whole ones become int, so that 4 and 4.0 are one value."""

    def read(given: Any) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise Unfit(f"must be a number, got {given!r}")
        if not low <= given <= high or (open_low and given == low):
            raise Unfit(
                f"must be {'above' if open_low else 'at least'} {low:g} and at most {high:g}, got {given}"
            )
        return int(given) if float(given).is_integer() else float(given)

    return read


def word(*known: str) -> Callable[[Any], str]:
    """Read one of some names."""

    def read(given: Any) -> str:
        if not isinstance(given, str):
            raise Unfit(f"must be one of: {', '.join(known)}, got {given!r}")
        if given not in known:
            raise Unfit(f"unknown name {given!r}; {nearest(given, known)}")
        return given

    return read


def none_or(read_some: Callable[[Any], Value]) -> Callable[[Any], Value]:
    """Read the word none, or what `read_some` reads."""

    def read(given: Any) -> Value:
        if given == "none":
            return "none"
        if given is None or isinstance(given, str | bool):
            raise Unfit(f"must be none or a number, got {given!r}")
        return read_some(given)

    return read


def letters(given: Any) -> str:
    """Read a placement: letters L and S."""
    if not isinstance(given, str) or not given or set(given) - set("LS"):
        raise Unfit(
            f"must be letters L (large kernel) and S (depthwise 3x3), got {given!r}; for example L, LS or LSS"
        )
    return given


def branches(given: Any) -> Value:
    """Read a set of branches: none, paper, or a list of [k, r] pairs, which becomes a sorted tuple."""
    if isinstance(given, str):
        return word("none", "paper")(given)
    if not isinstance(given, list):
        raise Unfit(f"must be none, paper or a list of [kernel, dilation] pairs, got {given!r}")
    pairs = []
    for pair in given:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or any(type(part) is not int for part in pair)
        ):
            raise Unfit(
                f"must hold [kernel, dilation] pairs of whole numbers, got {pair!r}; for example [5, 1]"
            )
        k, r = pair
        if k % 2 == 0 or not 1 <= k <= 151:
            raise Unfit(f"branch {pair}: its kernel must be odd, from 1 to 151, got {k}")
        if not 1 <= r <= 75:
            raise Unfit(f"branch {pair}: its dilation must be from 1 to 75, got {r}")
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
        raise Unfit(f"must be 1, 2 or 4, got {given!r}")
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
    if not isinstance(given, dict):
        return fixed(key.read(given))
    kinds = [name for name in given if name in ("choice", "int", "float")]
    if len(kinds) != 1:
        names = ", ".join(given) or "nothing"
        raise Unfit(
            f"must be a value or one axis: {{choice: [...]}}, {{int: [low, high]}} or {{float: [low, high]}}, got {names}"
        )
    (kind,) = kinds
    if kind != "choice" and kind not in key.ranges:
        raise Unfit(f"cannot be a range of {kind}; write {{choice: [...]}}")
    options = {"choice": (), "int": ("step", "log"), "float": ("log",)}[kind]
    for name in given:
        if name != kind and name not in options:
            raise Unfit(f"unknown key {name!r} beside {kind}; {nearest(name, (kind, *options))}")
    readers = {"choice": _choice, "int": _int_range, "float": _float_range}
    return readers[kind](key, given)


def _choice(key: Key, given: dict[str, Any]) -> Axis:
    values = given["choice"]
    if not isinstance(values, list) or not values:
        raise Unfit(f"choice must be a list of at least one value, got {values!r}")
    read = []
    for index, value in enumerate(values):
        if isinstance(value, dict):
            raise Unfit(
                f"choice[{index}] must be a value, got another axis; an axis cannot stand inside an axis"
            )
        try:
            read.append(key.read(value))
        except Unfit as error:
            raise Unfit(f"choice[{index}] {error}") from None
        if read.index(read[-1]) < index:
            raise Unfit(f"choice must hold each value once, got {value!r} twice; remove one")
    return Choice(tuple(read))


def _bounds(given: Any, kind: str) -> tuple[Any, Any]:
    if not isinstance(given, list) or len(given) != 2:
        raise Unfit(f"{kind} must be [low, high], got {given!r}")
    return given[0], given[1]


def _log(given: dict[str, Any], low: float) -> bool:
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise Unfit(f"log must be true or false, got {log!r}")
    if log and low <= 0:
        raise Unfit(f"log must start above 0, got low {low}")
    return log


def _int_range(key: Key, given: dict[str, Any]) -> Axis:
    bounds = _bounds(given["int"], "int")
    if any(type(bound) is not int for bound in bounds):
        raise Unfit(f"int must be two whole numbers, got {list(bounds)}")
    low, high = bounds
    if low > high:
        raise Unfit(f"int: low <= high must hold, got low {low}, high {high}")
    step, log = given.get("step", 1), _log(given, low)
    if type(step) is not int or step < 1:
        raise Unfit(f"step must be a whole number of at least 1, got {step!r}")
    if "step" in given and log:
        raise Unfit("step and log exclude each other; remove one")
    if (high - low) % step:
        raise Unfit(
            f"step must divide high - low = {high - low}, got {step}; nearest high: {high - (high - low) % step}"
        )
    axis = IntRange(low, high, step, log)
    # Ends and one step tell all: every rule on whole numbers here is an interval or a parity.
    for value in {low, min(low + step, high), high}:
        try:
            key.read(value)
        except Unfit as error:
            raise Unfit(f"int [{low}, {high}] with step {step} holds {value}: {error}") from None
    return axis


def _float_range(key: Key, given: dict[str, Any]) -> Axis:
    low, high = _bounds(given["float"], "float")
    for bound in (low, high):
        key.read(bound)
    if low >= high:
        raise Unfit(f"float: low < high must hold, got low {low}, high {high}")
    return FloatRange(float(low), float(high), _log(given, low))
