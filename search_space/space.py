"""A design space: axes for every key, and the one procedure that draws an architecture from them.

The draw asks only for what can act on the network drawn so far, and offers only values that differ there
and can exist, so that two paths of a stage's own axes never lead to one network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from search_space.architecture import Architecture, Stage, Stem, canonical_stage, cropped_kernel
from search_space.axes import Axis, FloatRange, Suggest, Value, text_key
from search_space.branches import Words, expanded, resolved
from search_space.errors import SpaceError
from search_space.families import FAMILIES, stage_maps

Pick = Callable[[str, Axis, tuple[Value, ...]], Value]
"""Picks one of the options of a named axis; () stands for all of a range of floats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """A closed interval that a number of the merged network must lie in."""

    name: str
    """params, macs, activations, depth or latency_ms."""
    low: float | None
    high: float | None
    where: str
    """`file:line: path` of the YAML, for messages."""

    def met_by(self, value: float) -> bool:
        """Whether the value lies in the interval, ends included."""
        above = self.low is None or value >= self.low
        return above and (self.high is None or value <= self.high)


@dataclass(frozen=True, kw_only=True)
class DesignSpace:
    """What may be built: one axis for every key that the user left open, fixed values for the rest."""

    name: str
    where: str
    """File as the user named it, for messages."""
    size: tuple[int, int] | None
    """Height and width of the input in pixels; None until the data say."""
    channels: int | None
    network: Mapping[str, Axis]
    shared: Mapping[str, Axis]
    """Drawn once, used by every stage that leaves the key out."""
    stages: tuple[Mapping[str, Axis], ...]
    """A stage's own axes; keys it takes from `shared` are absent."""
    constraints: tuple[Constraint, ...]
    document: Mapping[str, Any] = field(compare=False)
    """The plain YAML, for run.yaml."""

    def bound(self, *, size: tuple[int, int], channels: int) -> DesignSpace:
        """Give the space on images of this size (pixels) and number of channels, where its YAML names none.

        Raises:
            SpaceError: the images are too small for the stages.
        """
        bound = replace(self, size=self.size or size, channels=self.channels or channels)
        bound.check_maps()
        return bound

    def check_maps(self) -> None:
        """Check that every stage has a map of at least one pixel.

        Raises:
            SpaceError: the images are too small for the stages.
        """
        height, width = self._input()
        kinds, transitions = self.network["stem.kind"], self.network["transition"]
        for stride in _values(self.network["stem.stride"]):
            patchy = "patchify" in _values(kinds) or "convnext" in _values(transitions)
            least = int(stride) * 2 ** (len(self.stages) - 1) if patchy else 1  # type: ignore[arg-type]
            if min(height, width) < least:
                raise SpaceError(
                    f"{self.where}: input: must be at least {least} pixels wide and high for stem stride {stride} "
                    f"and {len(self.stages)} stages, got {height}x{width}; use larger images or a smaller stride"
                )

    def axes(self) -> dict[str, Axis]:
        """Give every open axis by its path, such as `stages[1].kernel`, in the order of the file."""
        named = dict(self.network.items())
        named.update({f"shared.{key}": axis for key, axis in self.shared.items()})
        for index, stage in enumerate(self.stages):
            named.update({f"stages[{index}].{key}": axis for key, axis in stage.items()})
        return {name: axis for name, axis in named.items() if axis.size > 1}

    def suggest(self, trial: Suggest) -> Architecture:
        """Draw a canonical architecture through anything that has Optuna's `suggest_*`.

        An axis that cannot act is not asked for. Where only some of its values differ or can exist, the name
        carries them in braces, since Optuna holds one distribution a name.
        """

        def pick(name: str, axis: Axis, options: tuple[Value, ...]) -> Value:
            if isinstance(axis, FloatRange):
                return axis.suggest(trial, name)
            if len(options) == 1:
                return options[0]
            if len(options) < axis.size or not axis.contains(options[0]):
                name = f"{name}{{{'|'.join(str(text_key(option)) for option in options)}}}"
                axis = axis.narrowed(options)
            return axis.suggest(trial, name)

        return self.draw(pick)

    def draw(self, pick: Pick) -> Architecture:
        """Draw a canonical architecture; `pick` decides at every axis that can act."""
        height, width = self._input()
        network: dict[str, Any] = {}
        block = str(_pick(pick, "block", self.network["block"]))
        family = FAMILIES[block]
        for key in ("stem.kind", "stem.stride", "transition", "head", *sorted(family.network_keys)):
            network[key] = _pick(pick, key, self.network[key])
        for key, own in (
            ("stem.kind", family.stem),
            ("transition", family.transition),
            ("head", family.head),
        ):
            network[key] = own if network[key] == "default" else network[key]
        stem = Stem(kind=network.pop("stem.kind"), stride=network.pop("stem.stride"))
        maps = stage_maps(
            (height, width),
            len(self.stages),
            stem=stem.kind,
            stride=stem.stride,
            transition=network["transition"],
        )
        drawing = _Drawing(self, pick, block=block, sides=tuple(max(side) for side in maps))
        stages = tuple(drawing.stage(index) for index in range(len(self.stages)))
        assert self.channels is not None
        return Architecture(
            size=(height, width),
            channels=self.channels,
            block=block,
            stem=stem,
            stages=stages,
            **network,
        ).canonical

    def _input(self) -> tuple[int, int]:
        if self.size is None or self.channels is None:
            raise SpaceError(
                f"{self.where}: input: must be known to draw a network, got none; "
                "add 'input: {channels: 3, size: 32}' or name the data"
            )
        return self.size


class _Drawing:
    """One draw in progress: what is shared stays as it was first drawn."""

    def __init__(
        self, space: DesignSpace, pick: Pick, *, block: str, sides: tuple[int, ...]
    ) -> None:
        self.space = space
        self.pick = pick
        self.block = block
        self.acts = FAMILIES[block].stage_keys
        self.sides = sides
        self.drawn: dict[str, Value] = {}

    def stage(self, index: int) -> Stage:
        width = self.value(index, "width")
        depth = int(self.value(index, "depth"))  # type: ignore[arg-type]
        kernel, placement = self.pattern(index, depth)
        words: dict[str, Any] = {"ffn_ratio": self.value(index, "ffn_ratio")}
        large = "L" in placement
        if large and "dilations" in self.acts:
            word = self.value(index, "dilations", self.dilation_options(index, kernel))
            words["dilations"] = resolved(word, kernel)
        if "structure" in self.acts:
            words["structure"] = self.value(index, "structure")
            if words["structure"] == "se":
                words["se_ratio"] = self.value(index, "se_ratio")
        for key in ("layer_scale", "dw_ratio"):
            if key in self.acts:
                words[key] = self.value(index, key)
        for key in ("small_kernel", "strip"):
            if large and key in self.acts:
                words[key] = self.value(index, key)
        words = {
            key: None if value == "none" and key != "structure" else value
            for key, value in words.items()
        }
        words["layer_scale"] = words.get("layer_scale") or 0.0
        written = Stage(depth=depth, width=int(width), kernel=kernel, placement=placement, **words)  # type: ignore[arg-type]
        return canonical_stage(written, side=self.sides[index], block=self.block)

    def pattern(self, index: int, depth: int) -> tuple[int, str]:
        """Draw the kernel (as declared) and the placement, one letter a block."""
        small = "S" * depth
        own = self.space.stages[index]
        placements = {
            expanded(str(word), depth): word
            for word in reversed(self.candidates(index, "placement"))
        }
        if all("L" not in letters for letters in placements):
            return 3, small
        kernels = self.kernel_options(index)
        has_small = 3 in (self.crop(index, kernel) for kernel in kernels)
        exact = "placement" in own or "placement" in self.drawn
        if "kernel" in own and exact and not has_small and small in placements and len(kernels) > 1:
            kernels, has_small = (3, *kernels), True
        kernel = int(self.value(index, "kernel", kernels))  # type: ignore[arg-type]
        if self.crop(index, kernel) == 3:
            return 3, small
        if "placement" in own:
            letters = [
                text
                for text in reversed(placements)
                if "L" in text or not ("kernel" in own and has_small)
            ]
            word = self.value(index, "placement", tuple(placements[text] for text in letters))
        else:
            word = self.value(index, "placement", self.shared_placements(index))
        return kernel, expanded(str(word), depth)

    def kernel_options(self, index: int) -> tuple[Value, ...]:
        """Give declared kernels that differ on this stage's map and can exist, ascending."""
        kept: dict[int, tuple[int, frozenset[Words]]] = {}
        later = (
            range(index, len(self.sides)) if "kernel" not in self.space.stages[index] else (index,)
        )
        for kernel in sorted((int(k) for k in self.candidates(index, "kernel")), reverse=True):  # type: ignore[arg-type]
            crop, effects = self.crop(index, kernel), self.effects(index, kernel)
            users = (j for j in later if j == index or "kernel" not in self.space.stages[j])
            if not all(self.effects(j, kernel) for j in users):
                continue
            if not any(crop == c and effects <= e for c, e in kept.values()):
                kept[kernel] = (crop, effects)
        return tuple(sorted(kept))

    def effects(self, index: int, kernel: int) -> frozenset[Words]:
        """Give the branch sets that a declared kernel can have on this stage's map; empty: it cannot exist."""
        side = self.sides[index]
        if self.crop(index, kernel) == 3 or "dilations" not in self.acts:
            return frozenset({()})
        words = (resolved(word, kernel) for word in self.candidates(index, "dilations"))
        return frozenset(_cut(kernel, word, side) for word in words if word is not None)

    def dilation_options(self, index: int, kernel: int) -> tuple[Value, ...]:
        """Give the words that differ beside this kernel and can exist, here and in later stages that share them."""
        options: dict[object, Value] = {}
        is_shared = "dilations" not in self.space.stages[index]
        for word in self.candidates(index, "dilations"):
            branches = resolved(word, kernel)
            if branches is None or (is_shared and not self.fits_later(index, word)):
                continue
            differs = is_shared and index + 1 < len(self.sides)
            options.setdefault(word if differs else _cut(kernel, branches, self.sides[index]), word)
        return tuple(options.values())

    def fits_later(self, index: int, word: Value) -> bool:
        """Whether every later stage that shares this word of branches can still be drawn."""
        for j in range(index + 1, len(self.sides)):
            if "dilations" in self.space.stages[j]:
                continue
            kernels = [int(k) for k in self.candidates(j, "kernel")]  # type: ignore[arg-type]
            small = any("L" not in str(p) for p in self.candidates(j, "placement"))
            if not small and not any(
                self.crop(j, k) == 3 or resolved(word, k) is not None for k in kernels
            ):
                return False
        return True

    def shared_placements(self, index: int) -> tuple[Value, ...]:
        """Give the shared placements that differ in the deepest stage from here on."""
        users = [
            j for j in range(index, len(self.sides)) if "placement" not in self.space.stages[j]
        ]
        deepest = max(int(max(_values(self._axis(j, "depth")))) for j in users)  # type: ignore[type-var, arg-type]
        options: dict[str, Value] = {}
        for word in self.candidates(index, "placement"):
            options.setdefault(expanded(str(word), deepest), word)
        return tuple(options.values())

    def candidates(self, index: int, key: str) -> tuple[Value, ...]:
        """Give the values that a key can still take in a stage: what was drawn for it, or its whole axis."""
        if key not in self.space.stages[index] and key in self.drawn:
            return (self.drawn[key],)
        return _values(self._axis(index, key))

    def crop(self, index: int, kernel: int | Value) -> int:
        return cropped_kernel(int(kernel), self.sides[index])  # type: ignore[arg-type]

    def value(self, index: int, key: str, options: Sequence[Value] | None = None) -> Value:
        """Draw a stage's own key, or the shared one where it was not drawn before."""
        if key in self.space.stages[index]:
            return _pick(self.pick, f"stages[{index}].{key}", self._axis(index, key), options)
        if key not in self.drawn:
            self.drawn[key] = _pick(self.pick, f"shared.{key}", self._axis(index, key), options)
        return self.drawn[key]

    def _axis(self, index: int, key: str) -> Axis:
        own = self.space.stages[index]
        return own[key] if key in own else self.space.shared[key]


def _pick(pick: Pick, name: str, axis: Axis, options: Sequence[Value] | None = None) -> Value:
    if isinstance(axis, FloatRange):
        return pick(name, axis, ())
    given = axis.values if options is None else tuple(options)
    assert given, f"{name}: nothing left to draw"
    return given[0] if len(given) == 1 else pick(name, axis, given)


def _values(axis: Axis) -> tuple[Value, ...]:
    assert not isinstance(axis, FloatRange)
    return axis.values


def _cut(kernel: int, branches: Words, side: int) -> Words:
    """Give the branches as they are built on a map of `side` pixels."""
    stage = Stage(depth=1, width=1, kernel=kernel, placement="L", dilations=branches)
    return canonical_stage(stage, side=side, block="unireplknet").dilations
