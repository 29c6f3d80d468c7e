"""Small random spaces, and what brute force says of them: every assignment of every axis."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from search_space.architecture import Architecture, Stage, Stem, cropped_kernel, paper_branches
from search_space.axes import Axis, FloatRange, Value
from search_space.errors import SpaceError
from search_space.families import FAMILIES, stage_maps
from search_space.space import DesignSpace
from search_space.yaml_io import parse_space

Raw = tuple[tuple[str, Any], ...]
"""One value for every axis of a space, by the name of the axis."""

EXAMPLE = """\
name: tiny32
input: {channels: 3, size: 32}
block: unireplknet
stem: {kind: unireplknet, stride: 2}
stages:
  - {depth: 1, width: 24, kernel: 3}
  - {depth: 2, width: 48, kernel: {choice: [3, 7, 9, 13]}}
  - depth: {choice: [2, 4, 6]}
    width: {int: [64, 128], step: 16}
    kernel: {choice: [3, 7, 9, 13]}
    placement: {choice: [L, LS, LSS, S]}
every_stage:
  dilations: {choice: [none, paper, [[5, 1], [3, 2]]]}
shared:
  structure: {choice: [none, se, bottleneck]}
  ffn_ratio: {choice: [2, 4]}
constraints:
  params: {max: 2e6}
  macs: {min: 1e6, max: 60e6}
"""
"""A space with every part of the grammar: 8,100 networks, whatever the data."""


def random_space(seed: int, *, most: int) -> DesignSpace:
    """Give a space of at most so many assignments, with the corners that trip a census."""
    rng = random.Random(seed)
    while True:
        try:
            space = parse_space(_document(rng, hidden=random.Random(f"hidden {seed}")))
        except SpaceError:
            continue  # No branch fits: refused, as test_yaml_io checks.
        if len(list(assignments(space, most=most))) <= most:
            return space


def _document(rng: random.Random, *, hidden: random.Random) -> str:
    def axis(*values: Any, most: int = 3) -> str:
        picked = rng.sample(values, rng.randint(1, min(most, len(values))))
        texts = ", ".join(map(str, picked))
        return texts if len(picked) == 1 and rng.random() < 0.7 else f"{{choice: [{texts}]}}"

    axes: dict[str, Callable[[], str]] = {
        "depth": lambda: axis(1, 2, 3, most=2),
        "width": lambda: axis(8, 16, most=2),
        "kernel": lambda: rng.choice(
            [axis(3, 5, 7, 9, 13, 31), axis(7, 13, 31), "{int: [3, 9], step: 2}"]
        ),
        "placement": lambda: axis("L", "S", "LS", "LSS", "SL", "LL"),
        "dilations": lambda: axis(
            "none", "paper", "[[5, 1]]", "[[3, 4]]", "[[7, 2], [3, 1]]", "[[5, 1], [3, 2], [3, 3]]"
        ),
        "structure": lambda: axis("none", "se", "bottleneck", most=2),
        "se_ratio": lambda: axis(2, 4, 8, most=2),
        "ffn_ratio": lambda: axis(2, 4, 4.5, most=2),
        "layer_scale": lambda: axis("none", 1, 1e-6, most=2),
    }
    block = rng.choice(
        ["unireplknet"] * 4 + ["{choice: [unireplknet, convnext]}", "replknet", "slak"]
    )
    if block == "replknet":
        for key in ("dilations", "structure", "se_ratio", "layer_scale"):
            del axes[key]
        axes["small_kernel"] = lambda: axis("none", 3, 5, 7)
        axes["dw_ratio"] = lambda: axis(1, 1.5, most=2)
    if block == "slak":
        for key in ("dilations", "structure", "se_ratio"):
            del axes[key]
        axes["strip"] = lambda: axis("none", 3, 5, 9)
    places: dict[str, list[str]] = {"every_stage": [], "shared": []}
    stages: list[list[str]] = [[] for _ in range(rng.randint(1, 3))]
    for key, make in axes.items():
        place = rng.choice(["own", "own", "every_stage", "shared", "absent"])
        if key in ("depth", "width", "kernel") and place == "absent":
            place = "own"
        if place in places:
            places[place].append(f"{key}: {make()}")
        for index, stage in enumerate(stages):
            # Some stages have their own value beside a common one; the last never, lest it be idle.
            stray = place in places and index + 1 < len(stages) and rng.random() < 0.2
            if place == "own" or stray:
                stage.append(f"{key}: {make()}")
    for index, stage in enumerate(stages):
        if hidden.random() < 0.15:
            # 20 and 60 are what no whole ratio gives of the widths; the ratio has no effect there.
            stage = [key for key in stage if not key.startswith("ffn_ratio: {")]
            stages[index] = [*stage, f"ffn_hidden: {hidden.choice([16, 20, 32, 60, 64])}"]
    side, stride = rng.choice([6, 9, 16, 32]), axis(1, 2, 4, most=rng.choice([1, 1, 2]))
    if "convnext" in block or block == "slak":
        side = 32
    lines = [
        f"input: {{channels: 1, size: {side}}}",
        f"block: {block}",
        f"stem: {{stride: {stride}}}",
    ]
    if block == "slak":
        lines += [f"width_factor: {hidden.choice([1, 1.3])}"]
        lines += [f"weights_sparsity: {axis(0, 0.4, most=2)}"]
    lines += ["stages:", *(f"  - {{{', '.join(stage)}}}" for stage in stages)]
    lines += [f"{place}: {{{', '.join(found)}}}" for place, found in places.items() if found]
    return "\n".join(lines)


def named_axes(space: DesignSpace) -> dict[str, Axis]:
    """Give every axis by its name, also those of one value."""
    axes = dict(space.network.items())
    axes |= {f"shared.{key}": axis for key, axis in space.shared.items()}
    for index, stage in enumerate(space.stages):
        axes |= {f"stages[{index}].{key}": axis for key, axis in stage.items()}
    return axes


def assignments(space: DesignSpace, *, most: int) -> Iterator[Raw]:
    """List the assignments of all axes, at most one more than `most`."""
    axes = named_axes(space)
    values = []
    for axis in axes.values():
        assert not isinstance(axis, FloatRange)
        values.append(axis.values)
    for row in itertools.islice(itertools.product(*values), most + 1):
        yield tuple(zip(axes, row, strict=True))


def made_by(space: DesignSpace, raw: Raw) -> Architecture | None:
    """Build what an assignment says, by the sentences of the contract; None: it cannot exist."""
    words = dict(raw)
    block = words["block"]
    family = FAMILIES[block]
    stem = family.stem if words["stem.kind"] == "default" else words["stem.kind"]
    transition = family.transition if words["transition"] == "default" else words["transition"]
    assert space.size is not None
    assert space.channels is not None
    maps = stage_maps(
        space.size, len(space.stages), stem=stem, stride=words["stem.stride"], transition=transition
    )
    stages = []
    for index, axes in enumerate(space.stages):
        own = {key: words[f"stages[{index}].{key}"] for key in axes}
        shared = {key: words[f"shared.{key}"] for key in space.shared if key not in axes}
        stage = _stage({**own, **shared}, block=block, side=max(maps[index]))
        if stage is None:
            return None
        stages.append(stage)
    return Architecture(
        size=space.size,
        channels=space.channels,
        block=block,
        stem=Stem(kind=stem, stride=words["stem.stride"]),
        transition=transition,
        head=family.head if words["head"] == "default" else words["head"],
        width_factor=words["width_factor"],
        weights_sparsity=words["weights_sparsity"],
        stages=tuple(stages),
    )


def _stage(words: dict[str, Any], *, block: str, side: int) -> Stage | None:
    kernel, depth, word = words["kernel"], words["depth"], words["dilations"]
    letters = "".join(words["placement"][i % len(words["placement"])] for i in range(depth))
    branches: Any = ()
    if block == "unireplknet" and "L" in letters and cropped_kernel(kernel, side) > 3:
        if word == "paper" or (word == "default" and kernel >= 7):
            branches = paper_branches(kernel)
        elif isinstance(word, tuple):
            branches = word
            if any((k - 1) * r + 1 > kernel for k, r in branches):
                return None
    return Stage(
        depth=depth,
        width=words["width"],
        kernel=kernel,
        placement=letters,
        dilations=branches,
        structure=words["structure"],
        se_ratio=words["se_ratio"],
        ffn_ratio=words["ffn_ratio"],
        ffn_hidden=None if words["ffn_hidden"] == "none" else words["ffn_hidden"],
        layer_scale=0.0 if words["layer_scale"] == "none" else words["layer_scale"],
        small_kernel=None if words["small_kernel"] == "none" else words["small_kernel"],
        dw_ratio=words["dw_ratio"],
        strip=None if words["strip"] == "none" else words["strip"],
    )


@dataclass(kw_only=True, slots=True)
class Path:
    """One way through the tree of draws: picks as it is told, then the first option each time."""

    told: list[Any]
    picks: list[tuple[str, Any]] = field(default_factory=list)
    """Name and value of every axis that was asked for, in order."""
    offered: list[tuple[Any, ...]] = field(default_factory=list)
    """The options at each of them."""
    network: Architecture | None = None

    def pick(self, name: str, _axis: Axis, options: tuple[Value, ...]) -> Value:
        """Pick what was told for this place."""
        place = len(self.picks)
        value: Value = self.told[place] if place < len(self.told) else options[0]
        self.picks.append((name, value))
        self.offered.append(options)
        return value


def paths(space: DesignSpace) -> Iterator[Path]:
    """Walk every path of `draw`."""
    stack: list[list[Any]] = [[]]
    while stack:
        path = Path(told=stack.pop())
        path.network = space.draw(path.pick)
        values = [value for _, value in path.picks]
        for place in range(len(path.told), len(values)):
            stack += [[*values[:place], other] for other in path.offered[place][1:]]
        yield path
