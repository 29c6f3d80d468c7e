"""How far an architecture follows the four guidelines of UniRepLKNet: four scores in [0, 1].

Compliance is not merit: it is what a run explains its measured results with, never an objective.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search_space.architecture import LARGE_KERNEL, Architecture, Stage
from search_space.errors import SpaceError

STRUCTURE_CREDIT = {"none": 0.0, "se": 1.0, "bottleneck": 0.8, "pointwise": 0.5, "depthwise": 0.25}
"""What each extra structure gains over none, as a share of what SE gains (table 1, rounded)."""

PUBLISHED_KERNEL = 13
"""Kernel of the stages after the first in UniRepLKNet at 224 px."""

PUBLISHED_SIZE = (224, 224)
PUBLISHED_MAPS = (56, 28, 14, 7)
"""Side in pixels of the maps of UniRepLKNet's four stages at 224 px."""

SUFFICIENT_BLOCKS = 9
"""Large blocks in a stage after which UniRepLKNet adds 3x3 blocks only."""

SATURATED_BLOCKS = 7
"""Value of `saturating_depth` where 9 were found sufficient: 13x13 on a map of 14 pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compliance:
    """Scores in [0, 1]; None where a guideline has nothing to apply to."""

    s1: float | None
    """Depth is added by efficient structures such as squeeze-and-excitation."""
    s2: float | None
    """Large kernels have parallel dilated branches."""
    s3: float | None
    """Kernels are small in the first stage and large enough for the map in the later ones."""
    s4: float | None
    """Depth beyond what large kernels need is made of 3x3 blocks."""


def compliance(
    architecture: Architecture, *, head: Literal["last", "all"] | None = None
) -> Compliance:
    """Score the canonical form of an architecture.

    Stages are counted from 1; r is the longer side of a stage's map in pixels.

    S1: mean over all blocks of `STRUCTURE_CREDIT`.

    S2: mean over the large blocks (K >= 7) of the credit of their branches. Where any branch (k, r)
    is dilated, it is the widest reach, max ((k - 1) r + 1) / K. Several undilated branches give 0.7
    where the widest reaches three quarters of K, else 0.55; one small kernel (RepLKNet, SLaK) 0.5;
    no branch 0. The undilated credits are not multiplied with the reach, which was part of the
    networks they were measured on. None without large blocks.

    S3: H L. H is the mean of h over stages 2 to last, with k the stage's largest kernel and
    K* = odd(13 r / published r of the same stage position), odd(x) = 2 floor(x / 2) + 1: h = k / K*
    up to K*, beyond it K* / k where the head reads the stage, else 1. A stage with K* < 7 is left
    out; None where none is left. L = sqrt(3 / max(3, largest kernel of stage 1)) for head "all",
    1 for "last".

    S4: over stages 2 to last, sum of min(added, 3x3 blocks) / sum of added, with added =
    max(0, depth - N0). N0 = 9 for four stages at 224 px, else max(3, ceil(9 N / 7)) with
    N = ceil((r / 2)^2 / (0.5 (k^2 - 1) / 12)), the blocks of the stage's largest kernel k whose
    effective receptive field has a deviation of half the map. None where nothing was added.

    Args:
        architecture: what to score.
        head: "last" reads the last stage alone, as classification does; "all" reads every stage.
            None is as the task of the architecture has it: "all" for segmentation.

    Raises:
        SpaceError: for a branch that is wider than its kernel.

    Source: the guidelines and the gains behind the credits, UniRepLKNet, arXiv 2311.15599, section
    3.1 and tables 1 to 4; growth of the receptive field as k sqrt(n), arXiv 1701.04128. The scores,
    the scaling to other maps (S3) and N (S4) are ours.
    """
    if head is None:
        head = "all" if architecture.task == "segmentation" else "last"
    canonical = architecture.canonical
    blocks = sum(stage.depth for stage in canonical.stages)
    credit = sum(stage.depth * STRUCTURE_CREDIT[stage.structure] for stage in canonical.stages)
    large = [(stage, sum(k >= LARGE_KERNEL for k in stage.kernels)) for stage in canonical.stages]
    num_large = sum(count for _, count in large)
    branches = sum(count * branch_credit(stage) for stage, count in large if count)
    return Compliance(
        s1=credit / blocks,
        s2=branches / num_large if num_large else None,
        s3=_kernels_by_stage(canonical, head=head),
        s4=_added_depth(canonical),
    )


def branch_credit(stage: Stage) -> float:
    """Give S2 of one large block of the stage.

    Raises:
        SpaceError: for a branch that is wider than its kernel.
    """
    if not stage.dilations:
        small = stage.small_kernel is not None or stage.strip is not None
        return 0.5 if small else 0.0
    reach = max((k - 1) * r + 1 for k, r in stage.dilations)
    if reach > stage.kernel:
        raise SpaceError(
            f"dilations: a branch must fit into the kernel of {stage.kernel}, "
            f"got one that is {reach} wide; take a smaller kernel or dilation"
        )
    if any(r > 1 for _, r in stage.dilations):
        return reach / stage.kernel
    if len(stage.dilations) == 1:
        return 0.5
    return 0.7 if 4 * reach >= 3 * stage.kernel else 0.55


def saturating_depth(kernel: int, side: int) -> int:
    """Give the number of residual blocks whose receptive field has a deviation of half the map.

    A K x K kernel of equal weights adds (K^2 - 1) / 12 to the variance, halved on a residual path.
    """
    return math.ceil((side / 2) ** 2 / (0.5 * (kernel**2 - 1) / 12))


def _kernels_by_stage(architecture: Architecture, *, head: Literal["last", "all"]) -> float | None:
    later = list(zip(architecture.stages, architecture.maps, PUBLISHED_MAPS, strict=False))[1:]
    last = architecture.stages[-1]
    scores = []
    for stage, map_px, published_px in later:
        wanted = 2 * math.floor(PUBLISHED_KERNEL * max(map_px) / published_px / 2) + 1
        if wanted < LARGE_KERNEL:
            continue
        largest = max(stage.kernels)
        if largest <= wanted:
            scores.append(largest / wanted)
        else:
            scores.append(wanted / largest if head == "all" or stage is last else 1.0)
    if not scores:
        return None
    first = max(architecture.stages[0].kernels)
    low_level = math.sqrt(3 / max(3, first)) if head == "all" else 1.0
    return sum(scores) / len(scores) * low_level


def _added_depth(architecture: Architecture) -> float | None:
    published = len(architecture.stages) == 4 and architecture.size == PUBLISHED_SIZE
    added = small = 0
    for stage, map_px in list(zip(architecture.stages, architecture.maps, strict=True))[1:]:
        enough = SUFFICIENT_BLOCKS
        if not published:
            saturated = saturating_depth(max(stage.kernels), max(map_px))
            enough = max(3, math.ceil(SUFFICIENT_BLOCKS * saturated / SATURATED_BLOCKS))
        beyond = max(0, stage.depth - enough)
        added += beyond
        small += min(beyond, stage.kernels.count(3))
    return small / added if added else None
