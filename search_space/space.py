"""A design space: one axis for every key, and the networks that they span."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from search_space.architecture import Architecture
from search_space.axes import Axis, FloatRange, Suggest, Value, fixed, text_key
from search_space.census import Census
from search_space.drawing import Drawer, Pick
from search_space.errors import SpaceError, shown
from search_space.families import CLASSIFIERS, DENSE, TASKS, stage_maps
from search_space.keys import DEFAULT
from search_space.plan import Plan, Shell, shell_of
from search_space.traits import axis_values

if TYPE_CHECKING:
    import numpy as np


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

    def bounds(self) -> str:
        """Write the interval: `min 1e+06, max 6e+07`."""
        named = (("min", self.low), ("max", self.high))
        return ", ".join(f"{side} {bound:g}" for side, bound in named if bound is not None)


@dataclass(frozen=True, kw_only=True)
class DesignSpace:
    """What may be built: an axis for every key that the user left open, one value for the rest.

    Drawing, counting and membership are about canonical networks on images of known size: a space
    whose YAML names no input is first `bound` to the data.
    """

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
    places: Mapping[str, str] = field(compare=False, default_factory=dict)
    """`file:line: path` of what the YAML says of the whole network, by the key; for messages."""

    def __getstate__(self) -> dict[str, Any]:
        # What was worked out stays behind: a worker works out again the little that it needs.
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def bound(self, *, size: tuple[int, int], channels: int) -> DesignSpace:
        """Give the space on images of this size (pixels) and these channels, where it names none.

        Raises:
            SpaceError: the images are too small for the stages.
        """
        bound = replace(self, size=self.size or size, channels=self.channels or channels)
        bound.check_maps()
        return bound

    def for_task(self, task: str) -> DesignSpace:
        """Give the space of networks for a task: all with the dense head for segmentation.

        The head stands in `document` too, so that the space reads back as it was searched.

        Raises:
            SpaceError: the YAML names a head that the task cannot use.
        """
        if task not in TASKS:
            raise SpaceError(f"task: must be one of: {', '.join(TASKS)}, got {shown(task)}")
        dense, head = fixed(DENSE), self.network["head"]
        if task == "segmentation":
            if head == dense:
                return self
            if head != fixed(DEFAULT):
                raise SpaceError(
                    f"{self.place('head')}: must be {DENSE} for segmentation, which labels every "
                    f"pixel, got {head.label()}; remove it or write 'head: {DENSE}'"
                )
            return replace(
                self,
                network={**self.network, "head": dense},
                document={**self.document, "head": DENSE},
            )
        if head.contains(DENSE):
            raise SpaceError(
                f"{self.place('head')}: must be {' or '.join(CLASSIFIERS)} for classification, "
                f"got {head.label()}; remove it or use '--task segmentation'"
            )
        return self

    def place(self, key: str) -> str:
        """Give `file:line: path` of a key of the network, of `stages` or of `input.size`.

        Where the YAML is silent about a key, it is the first line.
        """
        return self.places.get(key, f"{self.where}:1: {key}")

    def image(self) -> tuple[tuple[int, int], int]:
        """Give height and width in pixels of the input, and its channels.

        Raises:
            SpaceError: the YAML names none, and the space was not bound to data.
        """
        if self.size is None or self.channels is None:
            raise SpaceError(
                f"{self.where}: input: must be known to draw a network, got none; "
                "add 'input: {channels: 3, size: 32}' or name the data"
            )
        return self.size, self.channels

    def check_maps(self) -> None:
        """Check that every stage has a map of at least one pixel.

        Raises:
            SpaceError: the images are too small for the stages.
        """
        assert self.size is not None
        height, width = self.size
        for values in itertools.product(*map(axis_values, self.network.values())):
            shell = shell_of(dict(zip(self.network, values, strict=True)))
            if self._least_map(shell, height, width) < 1:
                named = "input.size" in self.places
                # Where the images come with the data, it is the stages that ask for too much.
                at = f"{self.place('input.size')}:" if named else f"{self.place('stages')}: images"
                least = next(s for s in itertools.count(1) if self._least_map(shell, s, s))
                raise SpaceError(
                    f"{at} must be at least {least} pixels wide and high for stem "
                    f"stride {shell.stride} and {len(self.stages)} stages, got {height}x{width}; "
                    "use larger images, fewer stages or a smaller stride"
                )

    def _least_map(self, shell: Shell, height: int, width: int) -> int:
        maps = stage_maps(
            (height, width),
            len(self.stages),
            stem=shell.stem,
            stride=shell.stride,
            transition=shell.transition,
        )
        return min(maps[-1])

    def axes(self) -> dict[str, Axis]:
        """Give every open axis by its path: of the network, shared, then stage by stage."""
        named = dict(self.network.items())
        named.update({f"shared.{key}": axis for key, axis in self.shared.items()})
        for index, stage in enumerate(self.stages):
            named.update({f"stages[{index}].{key}": axis for key, axis in stage.items()})
        return {name: axis for name, axis in named.items() if axis.size > 1}

    @cached_property
    def plan(self) -> Plan:
        """What the axes make on images of this size; worked out once."""
        return Plan(self)

    @cached_property
    def _drawer(self) -> Drawer:
        return Drawer(self.plan)

    @cached_property
    def census(self) -> Census:
        """The set of distinct networks."""
        return Census(self)

    def draw(self, pick: Pick) -> Architecture:
        """Draw a canonical network; `pick` decides at every axis that can act."""
        return self._drawer.draw(pick)

    def suggest(self, trial: Suggest) -> Architecture:
        """Draw a canonical network through anything that has Optuna's `suggest_*`.

        An axis that cannot act is not asked for. Where only some of its values differ or can exist,
        the name carries them in braces, since Optuna holds one distribution a name.
        """

        def pick(name: str, axis: Axis, options: tuple[Value, ...]) -> Value:
            name, axis = _offered(name, axis, options)
            return axis.suggest(trial, name)

        return self.draw(pick)

    def answers(self, architecture: Architecture) -> dict[str, int | float | str]:
        """Give what a trial must answer, by the name, for `suggest` to draw a network.

        Raises:
            ValueError: the space cannot draw it.
        """
        return {
            _offered(name, axis, options)[0]: text_key(value)
            for name, axis, options, value in self._drawer.answers(architecture)
        }

    def count(self) -> float:
        """Count the distinct networks, constraints aside: an int, or infinity with float axes."""
        return self.census.size

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a network, each as likely as any other; with axes of floats, axis by axis."""
        return self.census.sample(rng)

    def contains(self, architecture: Architecture) -> bool:
        """Whether the space, constraints aside, can draw the canonical form of a network."""
        return self.census.contains(architecture)

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """List the distinct networks one axis away, by id; none for a network outside the space."""
        return self.census.neighbours(architecture)


def _offered(name: str, axis: Axis, options: tuple[Value, ...]) -> tuple[str, Axis]:
    """Give the axis that holds only the options, and a name that says so where they are not all."""
    if isinstance(axis, FloatRange) or len(options) == axis.size:
        return name, axis
    texts = "|".join(str(text_key(option)) for option in options)
    return f"{name}{{{texts}}}", axis.narrowed(options)
