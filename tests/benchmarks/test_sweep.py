"""Whether what the probe chooses is ever slower than plain torch: a sweep over shapes.

One thread, process time, medians of turns; plain torch is the better of both layouts.
"""

from __future__ import annotations

import random
from collections import Counter
from statistics import median

from builders.backends import SumShape
from evaluators.probe import probe, probed_shape
from search_space.architecture import paper_branches
from tests.benchmarks.test_block import contenders
from tests.benchmarks.timing import medians

SHAPES = 60
SIDES = (4, 5, 7, 8, 11, 14, 16, 28, 32, 56)
WIDTHS = (8, 12, 16, 24, 40, 64, 96, 192, 384)
IMAGES = (1, 3, 16, 100, 128)
KERNELS = (3, 5, 7, 9, 11, 13, 15, 17, 21, 27, 31)
DILATIONS = ("paper", (), ((5, 1),), ((3, 1), (3, 2), (3, 3)))
MOST_MACS = 400_000_000
"""Of a forward pass with all taps, which plain torch computes at 1 to 2 GF/s three times."""
SLOWER, SLOWER_S = 1.1, 1e-4
"""What counts as slower: by this factor and by so many seconds."""


def sampled() -> list[SumShape]:
    """Draw shapes in which every value of every axis comes up about equally often."""
    rng = random.Random(0)
    axes = []
    for values in (SIDES, WIDTHS, IMAGES, KERNELS, DILATIONS):
        repeated = [*values] * (-(-4 * SHAPES // len(values)))
        rng.shuffle(repeated)
        axes.append(repeated)
    shapes: list[SumShape] = []
    for side, width, images, kernel, dilations in zip(*axes, strict=False):
        assert isinstance(side, int)
        assert isinstance(width, int)
        assert isinstance(images, int)
        assert isinstance(kernel, int)
        branches = paper_branches(kernel) if dilations == "paper" else dilations
        fitting = [(k, k, r) for k, r in branches if (k - 1) * r < kernel]  # type: ignore[misc, operator, str-unpack]
        kernels = ((kernel, kernel, 1), *fitting)
        shape = SumShape(images, width, side, side, kernels, normed=True, last=True)
        macs = images * width * side * side * sum(h * w for h, w, _ in kernels)
        if macs < MOST_MACS and shape not in shapes:
            shapes.append(shape)
    return shapes[:SHAPES]


def test_the_chosen_backend_is_nowhere_slower_than_plain_torch(library: str) -> None:
    ratios: list[float] = []
    slower: list[str] = []
    backends: Counter[str] = Counter()
    for shape in sampled():
        narrow = probed_shape(shape)
        chosen = probe([narrow], library=library)[narrow.key]
        backends[chosen] += 1
        found = contenders(shape, library)
        turns = {name: found[name] for name in ("first", "last", chosen)}
        times = medians(turns)
        if _is_slower(times, chosen):  # a verdict of few turns is looked at again
            times = medians(turns, most=45, least=15)
        plain = min(times["first"], times["last"])
        ratios.append(plain / times[chosen])
        if _is_slower(times, chosen):
            ms = {name: round(1e3 * seconds, 2) for name, seconds in times.items()}
            slower.append(f"  {shape.key}: {chosen} {ms[chosen]} ms, {ms}")
    ratios.sort()
    tenths = ", ".join(f"{ratios[round(part / 10 * (len(ratios) - 1))]:.1f}" for part in range(11))
    print(
        f"\n{len(ratios)} shapes, chosen by the probe: {dict(backends)}\n"
        f"best of plain torch over the chosen, tenths of the distribution: {tenths}; "
        f"median {median(ratios):.1f}\n"
        f"slower by more than 10 % and 0.1 ms (must be none): {len(slower)}"
    )
    print("\n".join(slower))


def _is_slower(times: dict[str, float], chosen: str) -> bool:
    plain = min(times["first"], times["last"])
    return times[chosen] > SLOWER * plain and times[chosen] - plain > SLOWER_S


def test_the_sample_has_every_value_of_every_axis() -> None:
    shapes = sampled()

    assert len(shapes) == SHAPES
    assert {shape.rows for shape in shapes} == {*SIDES}
    assert {shape.width for shape in shapes} == {*WIDTHS}
    assert {shape.images for shape in shapes} == {*IMAGES}
    assert {shape.kernels[0][0] for shape in shapes} == {*KERNELS}
