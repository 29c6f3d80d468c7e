"""When a study may speak, and what each guideline is then: the two stop rules, vectorised.

`decide` is the only code that turns contrasts into findings; one study and the thousands that
simulate its error rates take the same path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.contrasts import G4, Assessment, Contrasts, Floats, assess, holm
from evaluators.protocol import GUIDELINES, Protocol
from evaluators.sequential import nominal_level, repeated_p

CONTRADICTS, OPEN, SUPPORTS, EQUIVALENT, DISAGREES = -1, 0, 1, 2, 3
"""What a look finds for a guideline. DISAGREES: significant, but not by the cross-entropy."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decision:
    """What the rule finds in the blocks so far; every array is (..., 4)."""

    code: NDArray[np.int64]
    at: NDArray[np.int64]
    """Blocks at which a sequential rule decided; 0 where it did not."""
    stop: NDArray[np.int64]
    """Blocks that `found` rests on."""
    tested: NDArray[np.bool_]
    """Whether the rule has looked; else there is no p."""
    found: Assessment
    """Of the blocks up to the decision, else up to the last look, before it of all."""


def settle(found: Assessment, significant: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the code of each guideline, (..., 4).

    A significant effect goes before equivalence, and does not count where the cross-entropy
    disagrees.
    """
    shown = np.where(found.agrees, found.direction, DISAGREES)
    return np.where(significant, shown, np.where(found.equivalent, EQUIVALENT, OPEN))


def decide(
    protocol: Protocol,
    contrasts: Contrasts,
    testable: NDArray[np.bool_],
    *,
    ended: bool = False,
) -> Decision:
    """Apply the protocol's rule to the blocks so far.

    Args:
        protocol: As registered.
        contrasts: (..., blocks, 4), at most the planned blocks, in their order.
        testable: (..., 4).
        ended: That no further block will come: see `judge`.
    """
    rule = fixed if protocol.rule == "fixed" else obrien_fleming
    return rule(protocol, contrasts, testable, ended=ended)


def fixed(
    protocol: Protocol, contrasts: Contrasts, testable: NDArray[np.bool_], *, ended: bool
) -> Decision:
    """Look once, after the last planned block or at the end; Holm over what is testable."""
    found = assess(contrasts, margin=protocol.margin, practical=protocol.practical)
    tested = testable & (ended or contrasts.blocks == protocol.blocks)
    p_holm = holm(np.where(tested, found.p, np.nan))
    code = settle(found, p_holm <= protocol.alpha)
    return Decision(
        code=np.where(tested, code, OPEN),
        at=np.zeros(code.shape, dtype=np.int64),
        stop=np.full(code.shape, contrasts.blocks),
        tested=tested,
        found=found,
    )


def obrien_fleming(
    protocol: Protocol, contrasts: Contrasts, testable: NDArray[np.bool_], *, ended: bool
) -> Decision:
    """Look at the planned numbers of blocks, alpha / 4 for each guideline.

    The first look that finds an effect, or equivalence, decides; from then on a guideline keeps
    the blocks it had. A study that ended between looks is looked at once more, at its end.
    """
    criteria = {"margin": protocol.margin, "practical": protocol.practical}
    done, planned = contrasts.blocks, protocol.looks()
    looks = [look for look in planned if 0 < look <= done]
    if ended and looks and done not in looks:
        looks.append(done)
    at = np.zeros(testable.shape, dtype=np.int64)
    for look in looks:
        found = assess(contrasts.first(look), **criteria)
        code = settle(found, found.p <= levels(protocol, np.int64(look), found))
        closed = (code != OPEN) & (code != DISAGREES)
        at = np.where((at == 0) & closed & testable, look, at)

    stop = np.where(at > 0, at, looks[-1] if looks else done)
    found = assess(contrasts.until(stop), **criteria)
    tested = testable & bool(looks)
    code = np.zeros(testable.shape, dtype=np.int64)
    if looks:
        code = np.where(tested, settle(found, found.p <= levels(protocol, stop, found)), OPEN)
    return Decision(code=code, at=at, stop=stop, tested=tested, found=found)


def levels(protocol: Protocol, look: np.int64 | NDArray[np.int64], found: Assessment) -> Floats:
    """Give the nominal p, (..., 4), at which each guideline may stop at its look.

    Support of guideline 4 is one-sided and keeps alpha / 4 on its one side.
    """
    one, both = (
        nominal_level(
            look, protocol.looks(), protocol.blocks, protocol.alpha / len(GUIDELINES), sides=sides
        )
        for sides in (1, 2)
    )
    level: Floats = np.where(one_sided(found), one, both)
    return level


def one_sided(found: Assessment) -> NDArray[np.bool_]:
    """Say which p are one-sided: that of guideline 4 in support."""
    sided: NDArray[np.bool_] = (np.arange(len(GUIDELINES)) == G4) & (found.direction > 0)
    return sided


def adjusted(protocol: Protocol, decision: Decision) -> Floats:
    """Adjust the p of a decision for the family, and for the looks; (..., 4), NaN: not tested.

    At or below alpha exactly where the rule finds significance: Holm's p, or the repeated p of a
    sequence times the four guidelines.
    """
    p = np.where(decision.tested, decision.found.p, np.nan)
    if protocol.rule == "fixed":
        return holm(p)
    sides = np.where(one_sided(decision.found), 1, 2)
    looks, family = protocol.looks(), len(GUIDELINES)
    for place in zip(*np.nonzero(decision.tested), strict=True):
        look, side = int(decision.stop[place]), int(sides[place])
        alone = repeated_p(float(p[place]), look, looks, protocol.blocks, sides=side)
        p[place] = min(family * alone, 1.0)
    return p
