"""The training of a winner before it is exported, which goes on where it was ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from builders import build_network
from builders.backends import AUTO, Backends
from evaluators.cost import cost
from evaluators.full_recipe import FullRecipe, full_recipe
from evaluators.full_training import KEEP_S, train_fully
from evaluators.images import ImageData
from evaluators.states import State
from runs.backends import found_again, user_cache
from runs.checkpoints import read_state, save_state
from runs.export.chosen import Chosen, kept_network
from runs.locks import QuietLock
from runs.objective import training_seed, void
from runs.plan import Plan
from search_space.errors import RunError, WorkFailed

logger = logging.getLogger(__name__)

FOLDER = "exports"
"""In the run directory, for the state of a training that was ended."""
REPEAT = 2_000_000
"""Repeat number that seeds these trainings: used for nothing else."""


def trained_on(
    run: Path,
    plan: Plan,
    chosen: Chosen,
    data: ImageData,
    *,
    epochs: float,
    device: str,
    report: Callable[..., None],
    note: Callable[[str], None],
    keep_s: float = KEEP_S,
) -> tuple[nn.Module, FullRecipe, Path]:
    """Train a network with the full recipe, from the weights that the run kept, or from none.

    Its state is kept in the run directory until `forget` is called; a second call with the same
    arguments goes on from there, at its end too.

    Args:
        run: directory of the run.
        plan: of the run.
        chosen: the network.
        data: images of the run.
        epochs: length.
        device: where to train.
        report: see `train_fully`.
        note: is told what takes time.
        keep_s: seconds between two states.

    Returns:
        The trained network, in eval mode on the CPU, the recipe, and the file of the state.

    Raises:
        RunError: the state on the disk is damaged.
        WorkFailed: the loss left the finite numbers.
    """
    weights = chosen.weights
    recipe = full_recipe(
        plan.recipe,
        epochs=epochs,
        images=len(data.train),
        params=cost(chosen.architecture, data.num_classes).params_inference,
        task=data.task,
        trained=None if weights is None else weights.epochs,
    )
    seed = training_seed(plan.settings.seed, chosen.id, REPEAT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kept_network(
            chosen,
            data.num_classes,
            drop_path=recipe.drop_path,
            backends=_backends(plan, device, note),
        )
    state = run / FOLDER / _state_name(chosen, recipe, device)
    goes_on = read_state(state)
    start = "the weights of the search" if weights else "an initialisation"
    start = start if goes_on is None else f"step {goes_on['step']:,}, where it was ended"
    note(f"training {chosen.id} for {epochs:g} epochs from {start}")
    try:
        finite = _train(
            run, network, data, recipe, seed, device, report, goes_on, _keeper(state), keep_s
        )
    except KeyboardInterrupt:
        if not state.exists():
            raise
        raise KeyboardInterrupt(f"The same command goes on with the training ({state}).") from None
    if not finite:
        # It would do so again from its state.
        forget(state)
        raise WorkFailed(
            f"--train-epochs {epochs:g}: the loss must stay finite, it did not (the training "
            "diverged); export without --train-epochs, or train another network of the front"
        )
    # Compiled kernels of a training can be neither scored on other devices nor traced.
    plain = build_network(chosen.architecture, data.num_classes)
    plain.load_state_dict(network.cpu().state_dict())
    return plain.eval(), recipe, state


def use_idle_cores() -> None:
    """Let torch compute on as many threads as there are idle cores, at least one.

    Threads of one operator wait for each other, and burn a core meanwhile.
    """
    busy = round(os.getloadavg()[0])
    torch.set_num_threads(max(1, torch.get_num_threads() - busy))


def forget(state: Path) -> None:
    """Delete the state of a training that is not needed any more."""
    with contextlib.suppress(OSError):
        state.unlink(missing_ok=True)
        state.parent.rmdir()


def _train(
    run: Path,
    network: nn.Module,
    data: ImageData,
    recipe: FullRecipe,
    seed: int,
    device: str,
    report: Callable[..., None],
    goes_on: State | None,
    keep: Callable[[State], None],
    keep_s: float,
) -> bool:
    """Train while a search of the same run may go on and measure latencies on this machine."""
    lock = QuietLock(run)
    writable = os.access(run, os.W_OK)
    with lock.shared() if writable else contextlib.nullcontext():
        return train_fully(
            network,
            data,
            recipe=recipe,
            seed=seed,
            device=device,
            report=report,
            between_steps=lambda: void(lock.yield_to_measurement()) if writable else None,
            goes_on=goes_on,
            keep=keep,
            keep_s=keep_s,
        )


def _keeper(path: Path) -> Callable[[State], None]:
    """Give what writes a state; where that fails the training goes on, and is warned of once."""
    failed = False

    def keep(state: State) -> None:
        nonlocal failed
        try:
            save_state(state, path)
        except RunError as error:
            if not failed:
                logger.warning("a training that is ended could not go on: %s", error)
            failed = True

    return keep


def _state_name(chosen: Chosen, recipe: FullRecipe, device: str) -> str:
    """Name the state of this training: another length, recipe or start is another training."""
    start = b"" if chosen.weights is None else chosen.weights.path.read_bytes()
    kind = torch.device(device).type
    what = json.dumps([asdict(recipe), kind, hashlib.sha256(start).hexdigest()])
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    return f"{chosen.id}-{recipe.epochs:g}-epochs-{digest}.pt"


def _backends(plan: Plan, device: str, note: Callable[[str], None]) -> Backends:
    """Give the backends of the run's trainings where they are at hand, else torch's own."""
    if torch.device(device).type != torch.device(plan.settings.device).type:
        return AUTO
    try:
        found = found_again(plan, cache=user_cache(), forced=None, note=note)
    except RunError:
        # They are about speed alone.
        return AUTO
    return found.backends
