"""The four guidelines as factors, in the words of one space, and what it lacks for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evaluators.moves import EXTRAS, Moves, Pattern
from search_space.axes import text_key
from search_space.families import FAMILIES
from search_space.plan import Plan
from search_space.traits import axis_values


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """A guideline in the words of one space."""

    guideline: str
    """g1 to g4."""
    low: str
    """What level 0 is, against the guideline."""
    high: str
    """What level 1 is, as the guideline says."""
    missing: str | None
    """The axis that the space lacks for it, and what that would need; None where it has all."""


def described(moves: Moves, guideline: str, missing: str | None) -> Factor:
    """Put a guideline into the words of a space."""
    extras = dict.fromkeys(e for i, _ in enumerate(moves.structures) if (e := moves.extra(i)))
    kernels = sorted({p.kernel for p in moves.patterns[0] if p.is_large})
    low, high = {
        "g1": ("no extra structure in any block", f"{' or '.join(extras) or 'se'} in every block"),
        "g2": ("no branches beside large kernels", "dilated branches beside every large kernel"),
        "g3": (
            f"kernel {_listed(kernels, 'or') or '7 or more'} in stage 1, drawn for each context",
            "kernel 3 in stage 1; later stages hold large kernels either way",
        ),
        "g4": (
            "large kernels in all blocks of the later stages",
            "3x3 in the blocks added to the first one of a later stage (one large block counts as "
            "enough here, where networks are shallow; 9 in the published ones)",
        ),
    }[guideline]
    return Factor(guideline=guideline, low=low, high=high, missing=missing)


def reason(moves: Moves, guideline: str) -> str | None:
    """Say which axis a guideline lacks under a shell and what it would need; None: it has all."""
    return {"g1": _no_g1, "g2": _no_g2, "g3": _no_g3, "g4": _no_g4}[guideline](moves)


def together(moves: Moves, active: Iterable[str]) -> str:
    """Say why a guideline that has its axes cannot be tested beside those that can."""
    keys = (*Pattern._fields, "structure")
    names = [name for name in moves.plan.space.shared if name in keys]
    others = ", ".join(sorted(active))
    beside = f" beside {others}" if others else ""
    return (
        f"axes {', '.join(names) or 'of the stages'}: need both levels in one network's place"
        f"{beside}, the stages share them; give each stage its own (every_stage)"
    )


def _no_g1(moves: Moves) -> str | None:
    if any(moves.extra(i) for i, _ in enumerate(moves.structures)):
        return None
    if "structure" not in FAMILIES[moves.shell.block].stage_keys:
        return _family(moves, "whose blocks can hold an extra structure")
    has = _listed(sorted(set().union(*moves.structures)))
    return f"axis structure: needs none beside {_listed(EXTRAS, last='or')}, has only {has}"


def _no_g2(moves: Moves) -> str | None:
    stages = range(len(moves.patterns))
    if any(moves.dilated(i, pattern) for i in stages for pattern in moves.patterns[i]):
        return None
    instead = {
        "replknet": "its small_kernel is one undilated branch",
        "slak": "its strips are no dilated branches",
        "convnext": "its kernel has no branches",
    }
    if "dilations" not in FAMILIES[moves.shell.block].stage_keys:
        return _family(moves, "whose large kernels can have dilated branches", instead)
    if not any(pattern.is_large for row in moves.patterns for pattern in row):
        return _no_large(moves, stages, "in some stage")
    has = _words(moves.plan, "dilations", stages)
    return f"axis dilations: needs none beside paper or other dilated branches, has only {has}"


def _no_g3(moves: Moves) -> str | None:
    if len(moves.patterns) == 1:
        return "stages: needs a second one, with kernels of its own, has only one"
    if not moves.large:
        return _no_large(moves, moves.later, "in a stage after the first")
    first = moves.patterns[0]
    larges = [p for p in first if p.is_large]
    if any(p.letters[0] == "L" and p.small in first for p in larges):
        return None
    if larges and not any(p.letters[0] == "L" for p in larges):
        has = _words(moves.plan, "placement", [0])
        return f"axis stages[0].placement: needs one that begins with L, has only {has}"
    has = _listed(sorted({p.kernel for p in first}))
    return f"axis stages[0].kernel: needs 3 beside a large kernel (7 or more), has only {has}"


def _no_g4(moves: Moves) -> str | None:
    if any(moves.mixed(i, pattern) for i in moves.later for pattern in moves.patterns[i]):
        return None
    where = "in a stage after the first" if len(moves.patterns) > 1 else "in its stage"
    if not moves.large:
        return _no_large(moves, moves.later, where)
    if not any(p.depth > 1 for i in moves.large for p in moves.patterns[i]):
        has = _words(moves.plan, "depth", moves.large)
        return f"axis depth: needs 2 or more {where}, has only {has}"
    has = _words(moves.plan, "placement", moves.large)
    return (
        "axis placement: needs large blocks throughout (L) beside a large first block with 3x3 "
        f"after it (LS, LSS) {where}, has only {has}"
    )


def _no_large(moves: Moves, stages: Iterable[int], where: str) -> str:
    has = _listed(sorted({p.kernel for i in stages for p in moves.patterns[i]}))
    return f"axis kernel: needs 7 or more {where}, as built on its map, has only {has}"


def _family(moves: Moves, what: str, instead: Mapping[str, str] | None = None) -> str:
    block = moves.shell.block
    aside = f" ({instead[block]})" if instead and block in instead else ""
    return f"axis block: needs unireplknet, {what}, has only {block}{aside}"


def _words(plan: Plan, key: str, stages: Iterable[int]) -> str:
    """List what the axes of some stages say of a key."""
    values = [value for i in stages for value in axis_values(plan.axis(i, key))]
    texts = dict.fromkeys(str(text_key(value)) for value in values)
    return _listed("paper (the default)" if text == "default" else text for text in texts)


def _listed(words: Iterable[object], last: str = "and") -> str:
    *rest, end = [str(word) for word in words] or [""]
    return f"{', '.join(rest)} {last} {end}" if rest else end
