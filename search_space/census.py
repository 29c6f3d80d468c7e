"""The set of distinct architectures of a finite space: its size, its members, uniform draws, neighbours.

A space is a set of raw assignments (one value for every axis) and the map from an assignment to the
canonical architecture. Stages are independent once the axes they share are fixed, so for every shared
assignment g the architectures are a product of stage sets S_1(g) x ... x S_n(g). Their union over g is counted
without doubles by walking the stages with the set of those g that still fit what was chosen.

Width and ffn_ratio act always and alone; they stay outside the walk, as factors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from search_space.architecture import Architecture, Stage, Stem, canonical_stage, cropped_kernel
from search_space.axes import Axis, FloatRange, Value, text_key
from search_space.branches import expanded, resolved
from search_space.families import FAMILIES, stage_maps
from search_space.space import DesignSpace

FREE = ("width", "ffn_ratio")
"""Keys that act in every stage of every family, whatever the others are."""

Raw = tuple[tuple[str, Value], ...]
"""One value for each of some keys."""
Shell = tuple[str, str, str, str, str, Value, Value]
"""The network-wide part: block, stem kind and stride, transition, head, width factor, sparsity."""
Groups = frozenset[int]
"""Shared assignments, by index, that fit the stages chosen so far."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """One assignment of the axes that all stages share."""

    raw: Raw
    shell: Shell
    sides: tuple[int, ...]


class Census:
    """Counts, draws and lists the distinct canonical architectures of a space.

    Float axes make a space infinite: `size` is then infinite, and neighbours leave those axes alone.
    """

    def __init__(self, space: DesignSpace) -> None:
        self.space = space
        self._network = space._input()
        self._counts: dict[tuple[int, Groups], int] = {}

    @cached_property
    def finite(self) -> bool:
        """Whether no axis is a range of floats."""
        return not any(isinstance(axis, FloatRange) for axis in self.space.axes().values())

    @cached_property
    def size(self) -> float:
        """Number of distinct architectures, an int where it is finite."""
        return self._patterns * self._free if self.finite else math.inf

    @cached_property
    def impossible(self) -> int:
        """Raw combinations of a stage's axes that cannot exist (a branch wider than its kernel)."""
        return sum(
            canonical is None
            for g in range(len(self._shared))
            for index in range(len(self.space.stages))
            for _, canonical in self._images(index, g)
        )

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw uniformly from the distinct architectures; with float axes, uniformly axis by axis."""
        if not self.finite:
            return self.space.draw(lambda _name, axis, options: _uniform(rng, axis, options))
        fits: Groups = frozenset(range(len(self._shared)))
        stages: list[Stage] = []
        for index in range(len(self.space.stages)):
            table = self._table(index, fits)
            weights = [len(values) * self._count(index + 1, rest) for rest, values in table.items()]
            total = sum(weights)
            # Integers beyond 2**63 cannot be drawn at once; a 53-bit fraction is uniform enough.
            point, chosen = int(rng.random() * total), 0
            while point >= weights[chosen]:
                point -= weights[chosen]
                chosen += 1
            fits, values = list(table.items())[chosen]
            stages.append(values[int(rng.integers(len(values)))])
        free = {
            name: axis.values[int(rng.integers(axis.size))]
            for name, axis in self._free_axes.items()
        }  # type: ignore[union-attr]
        return self._network_of(min(fits), self._with_free(stages, free))

    def all(self) -> Iterator[Architecture]:
        """List every distinct architecture of a finite space."""
        names, axes = list(self._free_axes), list(self._free_axes.values())
        for stages, fits in self._walk(0, frozenset(range(len(self._shared)))):
            for values in itertools.product(*(axis.values for axis in axes)):  # type: ignore[union-attr]
                free = dict(zip(names, values, strict=True))
                yield self._network_of(min(fits), self._with_free(stages, free))

    def contains(self, architecture: Architecture) -> bool:
        """Whether the space can draw the canonical form of an architecture."""
        return any(True for _ in self._fitting(architecture.canonical)) and self._free_fits(
            architecture
        )

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """List the distinct architectures that one axis away from it can reach, itself left out.

        b is a neighbour of a where some assignment of all axes gives a and, with one axis changed, gives b;
        axes that cannot act on a may stand anywhere. Axes of floats are left alone. Order: by id.
        """
        origin = architecture.canonical
        found: dict[str, Architecture] = {}
        bare = self._bared(origin)
        for g in self._fitting(origin):
            sources = [
                [raw for raw, canonical in self._images(index, g) if canonical == stage]
                for index, stage in enumerate(bare)
            ]
            for near in itertools.chain(
                self._own_changes(origin, g, sources), self._shared_changes(origin, g, sources)
            ):
                found[near.id] = near
        for near in self._free_changes(origin):
            found[near.id] = near
        found.pop(origin.id, None)
        return [found[key] for key in sorted(found)]

    def wasted(self) -> list[str]:
        """Name the choices that never make another network than those before them on their axis."""
        lines = []
        for name, axis in self.space.axes().items():
            stage, _, key = name.rpartition(".")
            if isinstance(axis, FloatRange) or key in FREE:
                continue
            image_of = self._stage_image if stage.startswith("stages") else self._shared_image
            seen: set[object] = set()
            for value in axis.values:
                image = image_of(name, value)
                if not image:
                    lines.append(f"{name}: {text_key(value)} can never be drawn")
                elif image <= seen:
                    lines.append(
                        f"{name}: {text_key(value)} makes only networks that the values before it make"
                    )
                seen |= image
        return lines

    def _stage_image(self, name: str, value: Value) -> set[object]:
        """Everything that a stage can be with one of its axes at one value."""
        index, key = int(name[len("stages[")]), name.rpartition(".")[2]
        return {
            (g, canonical)
            for g in range(len(self._shared))
            for raw, canonical in self._images(index, g)
            if canonical is not None and dict(raw)[key] == value
        }

    def _shared_image(self, name: str, value: Value) -> set[object]:
        """Every product of stage sets that can be made with one shared axis at one value."""
        image: set[object] = set()
        for g, shared in enumerate(self._shared):
            if dict(shared.raw)[name] == value:
                stages = [
                    frozenset(c for _, c in self._images(index, g) if c is not None)
                    for index in range(len(self.space.stages))
                ]
                if all(stages):
                    image.add((shared.shell, *stages))
        return image

    # The shared assignments and the images of every stage under them.

    @cached_property
    def _shared(self) -> tuple[_Shared, ...]:
        network = {key: _finite_values(axis) for key, axis in self.space.network.items()}
        common = {
            key: _finite_values(axis) for key, axis in self.space.shared.items() if key not in FREE
        }
        rows: list[_Shared] = []
        for shell_raw in itertools.product(*network.values()):
            shell_words = dict(zip(network, shell_raw, strict=True))
            shell = _shell(shell_words)
            maps = stage_maps(
                self._network,
                len(self.space.stages),
                stem=shell[1],
                stride=int(shell[2]),
                transition=shell[3],
            )
            sides = tuple(max(side) for side in maps)
            for shared_raw in itertools.product(*common.values()):
                raw = tuple((key, shell_words[key]) for key in network)
                raw += tuple(
                    (f"shared.{key}", value) for key, value in zip(common, shared_raw, strict=True)
                )
                rows.append(_Shared(raw, shell, sides))
        return tuple(rows)

    @cached_property
    def _image_cache(self) -> dict[tuple[object, ...], list[tuple[Raw, Stage | None]]]:
        return {}

    def _images(self, index: int, g: int) -> list[tuple[Raw, Stage | None]]:
        """Every raw assignment of a stage's own axes, with the stage (width 1) that it makes under g."""
        shared = self._shared[g]
        words = tuple((name[7:], value) for name, value in shared.raw if name.startswith("shared."))
        key = (index, shared.shell[0], shared.sides[index], words)
        if key not in self._image_cache:
            own = {
                k: _finite_values(axis)
                for k, axis in self.space.stages[index].items()
                if k not in FREE
            }
            images = []
            for values in itertools.product(*own.values()):
                raw = tuple(zip(own, values, strict=True))
                stage = _stage(
                    dict((*words, *raw)), block=shared.shell[0], side=shared.sides[index]
                )
                images.append((raw, stage))
            self._image_cache[key] = images
        return self._image_cache[key]

    @cached_property
    def _fits(self) -> tuple[dict[Stage | Shell, Groups], ...]:
        """For every position (the shell first), which shared assignments g can make each value."""
        shells: dict[Stage | Shell, set[int]] = {}
        for g, shared in enumerate(self._shared):
            shells.setdefault(shared.shell, set()).add(g)
        positions: list[dict[Stage | Shell, set[int]]] = [shells]
        for index in range(len(self.space.stages)):
            stages: dict[Stage | Shell, set[int]] = {}
            for g in range(len(self._shared)):
                for _, canonical in self._images(index, g):
                    if canonical is not None:
                        stages.setdefault(canonical, set()).add(g)
            positions.append(stages)
        return tuple(
            {value: frozenset(gs) for value, gs in position.items()} for position in positions
        )

    def _table(self, index: int, fits: Groups) -> dict[Groups, list[Stage]]:
        """Group the values of a stage by which of `fits` remain when it is chosen.

        Before the first stage, `fits` spans several shells; a network has one, so they are told apart there.
        """
        shells = self._fits[0].values() if index == 0 else (fits,)
        table: dict[Groups, list[Stage]] = {}
        for shell in shells:
            for value, groups in self._fits[index + 1].items():
                rest = groups & fits & shell
                if rest:
                    assert isinstance(value, Stage)
                    table.setdefault(rest, []).append(value)
        return table

    def _count(self, index: int, fits: Groups) -> int:
        if index == len(self.space.stages):
            return 1
        key = (index, fits)
        if key not in self._counts:
            table = self._table(index, fits)
            self._counts[key] = sum(
                len(values) * self._count(index + 1, rest) for rest, values in table.items()
            )
        return self._counts[key]

    def _walk(self, index: int, fits: Groups) -> Iterator[tuple[list[Stage], Groups]]:
        if index == len(self.space.stages):
            yield [], fits
            return
        for rest, values in self._table(index, fits).items():
            for tail, last in self._walk(index + 1, rest):
                for value in values:
                    yield [value, *tail], last

    @cached_property
    def _patterns(self) -> int:
        return self._count(0, frozenset(range(len(self._shared))))

    # The axes that stay outside the walk.

    @cached_property
    def _free_axes(self) -> dict[str, Axis]:
        named = {f"shared.{key}": axis for key, axis in self.space.shared.items() if key in FREE}
        for index, stage in enumerate(self.space.stages):
            named.update(
                {f"stages[{index}].{key}": axis for key, axis in stage.items() if key in FREE}
            )
        return named

    @cached_property
    def _free(self) -> int:
        return math.prod(int(axis.size) for axis in self._free_axes.values())

    def _free_name(self, index: int, key: str) -> str:
        return f"stages[{index}].{key}" if key in self.space.stages[index] else f"shared.{key}"

    def _with_free(self, stages: list[Stage], free: Mapping[str, Value]) -> tuple[Stage, ...]:
        return tuple(
            replace(stage, **{key: free[self._free_name(index, key)] for key in FREE})  # type: ignore[arg-type]
            for index, stage in enumerate(stages)
        )

    def _free_fits(self, architecture: Architecture) -> bool:
        values: dict[str, set[Value]] = {}
        for index, stage in enumerate(architecture.stages):
            for key in FREE:
                values.setdefault(self._free_name(index, key), set()).add(getattr(stage, key))
            floating = self._floating(index)
            if floating and "layer_scale" in FAMILIES[architecture.block].stage_keys:
                if not floating.contains(stage.layer_scale):
                    return False
        return all(
            len(given) == 1 and self._free_axes[name].contains(*given)
            for name, given in values.items()
        )

    # Neighbours.

    def _fitting(self, origin: Architecture) -> Iterator[int]:
        """Shared assignments that can make a canonical architecture."""
        if origin.size != self.space.size or origin.channels != self.space.channels:
            return
        if len(origin.stages) != len(self.space.stages):
            return
        fits = self._fits[0].get(_shell_of(origin), frozenset())
        for position, stage in zip(self._fits[1:], self._bared(origin), strict=True):
            fits &= position.get(stage, frozenset())
        yield from sorted(fits)

    def _floating(self, index: int) -> FloatRange | None:
        """The range of floats of a stage's layer scale, if it is one."""
        own = self.space.stages[index]
        axis = own["layer_scale"] if "layer_scale" in own else self.space.shared["layer_scale"]
        return axis if isinstance(axis, FloatRange) else None

    def _bared(self, network: Architecture) -> tuple[Stage, ...]:
        return tuple(
            _bare(s, floating=self._floating(i) is not None) for i, s in enumerate(network.stages)
        )

    def _dressed(self, index: int, stage: Stage, like: Stage) -> Stage:
        dressed = replace(stage, width=like.width, ffn_ratio=like.ffn_ratio)
        return replace(dressed, layer_scale=like.layer_scale) if self._floating(index) else dressed

    def _own_changes(
        self, origin: Architecture, g: int, sources: list[list[Raw]]
    ) -> Iterator[Architecture]:
        for index, raws in enumerate(sources):
            near = {
                canonical
                for raw, canonical in self._images(index, g)
                if canonical is not None and any(_distance(raw, source) == 1 for source in raws)
            }
            for stage in near:
                stages = list(origin.stages)
                stages[index] = self._dressed(index, stage, origin.stages[index])
                yield self._network_of(g, tuple(stages))

    def _shared_changes(
        self, origin: Architecture, g: int, sources: list[list[Raw]]
    ) -> Iterator[Architecture]:
        for other, shared in enumerate(self._shared):
            if _distance(shared.raw, self._shared[g].raw) != 1:
                continue
            reachable = []
            for index, raws in enumerate(sources):
                wanted = set(raws)
                images = {
                    c for raw, c in self._images(index, other) if raw in wanted and c is not None
                }
                reachable.append(
                    [self._dressed(index, stage, origin.stages[index]) for stage in images]
                )
            for stages in itertools.product(*reachable):
                yield self._network_of(other, stages)

    def _free_changes(self, origin: Architecture) -> Iterator[Architecture]:
        for name, axis in self._free_axes.items():
            if isinstance(axis, FloatRange):
                continue
            key = name.rpartition(".")[2]
            for value in axis.values:
                yield replace(
                    origin,
                    stages=tuple(
                        replace(stage, **{key: value})
                        if self._free_name(index, key) == name
                        else stage  # type: ignore[arg-type]
                        for index, stage in enumerate(origin.stages)
                    ),
                )

    def _network_of(self, g: int, stages: tuple[Stage, ...]) -> Architecture:
        block, kind, stride, transition, head, factor, sparsity = self._shared[g].shell
        assert self.space.channels is not None
        return Architecture(
            size=self._network,
            channels=self.space.channels,
            block=block,
            stem=Stem(kind=kind, stride=int(stride)),
            transition=transition,
            head=head,
            width_factor=factor,  # type: ignore[arg-type]
            weights_sparsity=sparsity,  # type: ignore[arg-type]
            stages=stages,
        ).canonical


def _finite_values(axis: Axis) -> tuple[Value, ...]:
    # A range of floats (layer_scale) stands still in the walk; `_dressed` puts the network's own value back.
    return ("none",) if isinstance(axis, FloatRange) else axis.values


def _uniform(rng: np.random.Generator, axis: Axis, options: tuple[Value, ...]) -> Value:
    if not isinstance(axis, FloatRange):
        return options[int(rng.integers(len(options)))]
    if axis.log:
        return float(np.exp(rng.uniform(math.log(axis.low), math.log(axis.high))))
    return float(rng.uniform(axis.low, axis.high))


def _distance(raw: Raw, other: Raw) -> int:
    return sum(a != b for a, b in zip(raw, other, strict=True))


def _bare(stage: Stage, *, floating: bool) -> Stage:
    """Give the stage without what stands outside the walk."""
    bare = replace(stage, width=1, ffn_ratio=4)
    return replace(bare, layer_scale=0.0) if floating else bare


def _shell(words: Mapping[str, Value]) -> Shell:
    """Give the network-wide part that some words make, with settings that cannot act at their defaults."""
    family = FAMILIES[str(words["block"])]
    named = {"stem.kind": family.stem, "transition": family.transition, "head": family.head}
    kind, transition, head = (
        str(words[k]) if words[k] != "default" else own for k, own in named.items()
    )
    acts = family.network_keys
    return (
        str(words["block"]),
        kind,
        str(words["stem.stride"]),
        transition,
        head,
        words["width_factor"] if "width_factor" in acts else 1,
        words["weights_sparsity"] if "weights_sparsity" in acts else 0,
    )


def _shell_of(network: Architecture) -> Shell:
    stem = network.stem
    return (
        network.block,
        stem.kind,
        str(stem.stride),
        network.transition,
        network.head,
        network.width_factor,
        network.weights_sparsity,
    )


def _stage(words: Mapping[str, Value], *, block: str, side: int) -> Stage | None:
    """Give the canonical stage of width 1 that some words make on a map of `side` pixels, if it can exist."""
    acts, depth, kernel = FAMILIES[block].stage_keys, int(words["depth"]), int(words["kernel"])  # type: ignore[arg-type]
    placement = expanded(str(words["placement"]), depth)
    branches = resolved(words["dilations"], kernel) if "dilations" in acts else ()
    if branches is None:
        # A branch wider than its kernel is no trouble where no large kernel is built.
        if "L" in placement and cropped_kernel(kernel, side) > 3:
            return None
        branches = ()
    optional = {
        key: words[key] if words[key] != "none" else None
        for key in ("small_kernel", "strip", "layer_scale")
    }
    written = Stage(
        depth=depth,
        width=1,
        kernel=kernel,
        placement=placement,
        dilations=branches,
        structure=str(words["structure"]),
        se_ratio=int(words["se_ratio"]),  # type: ignore[arg-type]
        layer_scale=float(optional["layer_scale"] or 0.0),  # type: ignore[arg-type]
        small_kernel=optional["small_kernel"],  # type: ignore[arg-type]
        strip=optional["strip"],  # type: ignore[arg-type]
        dw_ratio=words["dw_ratio"],  # type: ignore[arg-type]
    )
    return canonical_stage(written, side=side, block=block)
