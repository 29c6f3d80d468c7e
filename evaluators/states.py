"""What a training carries from one step to the next, kept so that it goes on as if never stopped.

A state is a mapping of plain values and tensors, which `torch.save` and
`torch.load(weights_only=True)` keep. It is taken before an evaluation averages the batch norms
anew, so looking at a network on the way changes nothing. The place in the order of the images is
not in it: the seed and the step give it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from builders.network import Network
from evaluators.images import ImageData
from evaluators.recipe import Recipe
from evaluators.sparsity import DynamicSparsity
from search_space.errors import RunError

FORMAT = 1
"""Of a state; one of another format is refused."""

State = Mapping[str, Any]


@dataclass(kw_only=True, slots=True)
class Course:
    """How far a training has come."""

    step: int = 0
    """Optimiser steps made."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(step, mean training loss since the last point)."""
    losses: list[Tensor] = field(default_factory=list)
    """Of the steps since the last point of the curve."""

    @property
    def finite(self) -> bool:
        """Whether every loss since the last point is; on a GPU, asking waits for it."""
        return not self.losses or bool(torch.stack(self.losses).isfinite().all())

    def point(self) -> tuple[int, float]:
        """Give the point of the curve that the losses since the last one make."""
        return self.step, float(torch.stack(self.losses).mean())


def identity(network: nn.Module, data: ImageData, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Give what two stretches of one training have in common, in plain values."""
    name = network.architecture.id if isinstance(network, Network) else type(network).__name__
    return {
        "network": name,
        "seed": seed,
        "data": f"{data.sha256} {len(data.train)}",
        **asdict(recipe),
    }


def course_of(state: State, of: Mapping[str, Any], device: torch.device) -> Course:
    """Give how far the training of a state had come.

    Args:
        state: as `Carried.captured` gave it, or as it was loaded.
        of: the identity of the training that is to go on.
        device: where it will.

    Raises:
        RunError: it is no state of this training.
    """
    if state.get("format") != FORMAT:
        raise _other(state, f"one of format {state.get('format')!r}, not {FORMAT}")
    known = state["of"]
    differing = [name for name in of if known.get(name) != of[name]]
    if differing:
        raise _other(state, f"one with another {', '.join(differing)}")
    return Course(
        step=state["step"],
        curve=[(step, loss) for step, loss in state["curve"]],
        losses=list(state["losses"].to(device)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """The parts of a training that change with its steps, beside its course."""

    network: nn.Module
    """On the device, its parameters where the optimiser has them."""
    optimiser: torch.optim.Optimizer
    masks: DynamicSparsity
    device: torch.device

    def captured(self, course: Course, of: Mapping[str, Any]) -> State:
        """Give the state of a training that makes no step more: the optimiser's is not copied.

        Args:
            course: how far it has come.
            of: see `identity`.
        """
        weights = self.network.state_dict()
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "format": FORMAT,
            "of": dict(of),
            "step": course.step,
            "curve": [list(point) for point in course.curve],
            "losses": torch.stack(course.losses).cpu() if course.losses else torch.empty(0),
            # Copies: an evaluation averages the batch norms anew.
            "network": {name: value.to("cpu", copy=True) for name, value in weights.items()},
            "optimiser": self.optimiser.state_dict(),
            "masks": self.masks.state(),
            "random": random,
        }

    def restore(self, state: State) -> None:
        """Put all of it, and torch's generators, into a state that `course_of` accepted.

        A training that goes on on another kind of device does so with other bits.

        Raises:
            RunError: the state is of a network with other weights.
        """
        try:
            self.network.load_state_dict(state["network"])
        except RuntimeError as error:
            raise _other(state, "one of a network with other weights") from error
        self.optimiser.load_state_dict(state["optimiser"])
        self.masks.load(self.network, state["masks"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)


def to_bytes(state: State) -> bytes:
    """Give the file content of a state."""
    file = io.BytesIO()
    torch.save(dict(state), file)
    return file.getvalue()


def load(path: Path) -> State:
    """Read a state from a file, which is named in it as `where`; nothing in the file is run.

    Raises:
        FileNotFoundError: it is gone.
        RunError: it is something else, or damaged.
    """
    where = {"where": str(path)}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    # torch raises whatever its unpickler met.
    except Exception as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise _other(where, f"a file that cannot be read ({why})") from error
    if not isinstance(state, dict):
        raise _other(where, f"a {type(state).__name__}")
    return state | where


def stop_step(total: int, length: Fraction) -> int:
    """Give the step at which a training of so many stops at a share of its length."""
    return max(1, math.floor(length * total + Fraction(1, 2)))


def _other(state: State, got: str) -> RunError:
    return RunError(
        f"{state.get('where', 'checkpoint')}: must be the state of this very training, got {got}; "
        f"delete it, and the training begins anew with the same result"
    )
