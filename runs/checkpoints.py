"""Files that a training leaves: weights, and the state in which it stopped; whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from evaluators.states import State, load, to_bytes
from runs.records import write_atomic
from search_space.errors import RunError


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the weights of a training form.

    Raises:
        RunError: they cannot be written.
    """
    draft = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, draft)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise RunError(f"{path}: could not be written, {error}; make room on the disk") from error


def save_state(state: State, path: Path) -> None:
    """Write the state of a stopped training.

    Raises:
        RunError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: could not be written, {error}; make room on the disk") from error
    write_atomic(path, to_bytes(state))


def read_state(path: Path) -> State | None:
    """Read the state of a stopped training; None where the file is gone.

    Nothing is lost with it but time: from its start the training comes to the same.

    Raises:
        RunError: the file is something else, or damaged.
    """
    try:
        return load(path)
    except FileNotFoundError:
        return None
