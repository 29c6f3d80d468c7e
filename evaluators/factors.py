"""The four guidelines as factors, in the words of one space, and what it lacks for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from evaluators.moves import EXTRAS, Moves
from search_space.architecture import paper_branches
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
    low, high = _LEVELS[guideline](moves)
    return Factor(guideline=guideline, low=low, high=high, missing=missing)


def _g1(moves: Moves) -> tuple[str, str]:
    extras = {i: extra for i, _ in enumerate(moves.structures) if (extra := moves.extra(i))}
    words = _listed(dict.fromkeys(extras.values()), "or") or "se"
    part = _part(moves, extras)
    return f"no extra structure in the blocks{part}", f"{words} in every block{part}"


def _g2(moves: Moves) -> tuple[str, str]:
    acting = [i for i, row in enumerate(moves.patterns) if any(moves.dilated(i, p) for p in row)]
    papers = {
        moves.dilated(i, p) == paper_branches(p.kernel)
        for i in acting
        for p in moves.patterns[i]
        if moves.dilated(i, p)
    }
    words = "the published dilated branches" if papers != {False} else "dilated branches"
    part = _part(moves, acting)
    return f"no branches beside large kernels{part}", f"{words} beside every large kernel{part}"


def _g3(moves: Moves) -> tuple[str, str]:
    kernels = sorted({p.kernel for p in moves.patterns[0] if p.is_large})
    drawn = ", drawn for each context" if len(kernels) > 1 else ""
    return (
        f"kernel {_listed(kernels, 'or') or '7 or more'} in stage 1{drawn}; large ones later too",
        "kernel 3 in stage 1; large ones later",
    )


def _g4(_moves: Moves) -> tuple[str, str]:
    return (
        "the large kernel in every block of the later stages",
        "3x3 in the blocks that a later stage adds to its first (one large block is held to be "
        "enough in these shallow networks; of the published ones 9)",
    )


_LEVELS = {"g1": _g1, "g2": _g2, "g3": _g3, "g4": _g4}

_KEYS = {
    "g1": ("structure", "se_ratio"),
    "g2": ("dilations", "kernel"),
    "g3": ("kernel", "placement"),
    "g4": ("placement", "depth"),
}
"""Keys of a stage that decide a guideline's levels."""


def _part(moves: Moves, acting: Collection[int]) -> str:
    if len(acting) in (0, len(moves.patterns)):
        return ""
    noun = "stages" if len(acting) > 1 else "stage"
    return f" of {noun} {_listed(i + 1 for i in acting)}"


def reason(moves: Moves, guideline: str) -> str | None:
    """Say which axis a guideline lacks under a shell and what it would need; None: it has all."""
    return {"g1": _no_g1, "g2": _no_g2, "g3": _no_g3, "g4": _no_g4}[guideline](moves)


def together(moves: Moves, guideline: str, active: Iterable[str]) -> str:
    """Say why a guideline that has its axes cannot be tested, alone or beside those that can."""
    others = _listed(sorted(active))
    beside = f" beside {others}" if others else ""
    shared = [key for key in _KEYS[guideline] if key in moves.plan.space.shared]
    if shared:
        noun = "axes" if len(shared) > 1 else "axis"
        return (
            f"{noun} {_listed(shared)}: needs a value of its own in each stage to be varied{beside}"
            ", is shared by the stages; write it under every_stage"
        )
    keys = _listed(_KEYS[guideline])
    return (
        f"axes {keys}: need both levels in networks that differ in nothing else{beside}, "
        "none was found; give the stages more values"
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
    if any(p.is_large and moves.dilated(i, p) for i in stages for p in moves.patterns[i]):
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
