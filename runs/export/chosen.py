"""Which network of a run is exported, and with which of the weights that the run kept."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from builders import build_network
from builders.backends import AUTO, Backends
from runs.history import History, Trial
from runs.plan import Plan
from runs.standings import recommended
from runs.training_job import weights_path
from search_space.architecture import Architecture
from search_space.errors import RunError, shown

BEST = "best"
"""Stands for the id of the recommended network."""
SHOWN = 4
"""Ids in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Weights that a run kept, and the training that they come from."""

    path: Path
    epochs: float
    """Passes over the training split, those of the search's own training included."""
    trial: int
    """Number of the search's own training."""
    final: bool
    """Whether the network was trained on at the end of the search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """One network of a run."""

    id: str
    architecture: Architecture
    trial: Trial
    """Its first complete training, or where none is complete its first one."""
    weights: Weights | None
    """The longest-trained that are there; None where the run kept none."""


def choose(run: Path, plan: Plan, history: History, word: str) -> Chosen:
    """Find a network of a run.

    Args:
        run: its directory.
        plan: of the run.
        history: of the run.
        word: an id, the beginning of one, or `best` for the recommended network.

    Raises:
        RunError: no network, or more than one, is called so.
    """
    word = word.strip().lower()
    network_id = _best(run, plan, history) if word == BEST else _named(run, history, word)
    trials = sorted(history.networks[network_id], key=lambda trial: (trial.repeat, trial.number))
    complete = [trial for trial in trials if trial.state == "complete"]
    first = (complete or trials)[0]
    return Chosen(
        id=network_id,
        architecture=first.architecture,
        trial=first,
        weights=_final(run, plan, history, first) or _of_trial(run, plan, complete),
    )


def kept_network(
    chosen: Chosen, num_classes: int, *, drop_path: float = 0.0, backends: Backends = AUTO
) -> nn.Module:
    """Give a network with the weights that its run kept, or, where it kept none, with new ones.

    Args:
        chosen: which network.
        num_classes: number of logits.
        drop_path: see `build_network`.
        backends: see `build_network`.

    Raises:
        RunError: the weights are damaged, or of another network.
    """
    network = build_network(
        chosen.architecture, num_classes, drop_path=drop_path, backends=backends
    )
    if chosen.weights is not None:
        path = chosen.weights.path
        try:
            network.load_state_dict(load_file(path))
        except (SafetensorError, OSError, RuntimeError) as error:
            raise RunError(
                f"{path}: must hold the weights of {chosen.id} as the run wrote them, got "
                f"{type(error).__name__}: {str(error).splitlines()[0]}; restore the file from a "
                "copy, or move it away and add --train-epochs N"
            ) from error
    return network.eval()


def _best(run: Path, plan: Plan, history: History) -> str:
    best = recommended(plan, history)
    if best is None:
        raise RunError(
            f"{run}: must hold a complete training for 'best', got none; "
            f"continue it with `replk-search resume {run}`, or give the id of a network"
        )
    return best.id


def _named(run: Path, history: History, word: str) -> str:
    ids = list(history.networks)
    found = [known for known in ids if known.startswith(word)] if word else []
    if word in history.networks or len(found) == 1:
        return word if word in history.networks else found[0]
    listed = f"column id of {run / 'front.csv'} lists the front, trials.csv there all networks"
    if found:
        some = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        raise RunError(
            f"ID: must be the beginning of one id, {shown(word)} begins {len(found)}: {some}; "
            f"give more of it"
        )
    near = get_close_matches(word, ids, n=1, cutoff=0.0)
    hint = f"the nearest is {near[0]}; " if near else ""
    raise RunError(
        f"ID: must be a network of {run}, got {shown(word)}; {hint}"
        f"{listed}; '{BEST}' is the recommended network"
    )


def _final(run: Path, plan: Plan, history: History, first: Trial) -> Weights | None:
    """Give the weights of the final training, where it was of this network and ended well."""
    event = history.final.get("finaltrained")
    if event is None or event["id"] != first.id or event.get("state") != "complete":
        return None
    path = run / "weights" / f"final-{first.id}.safetensors"
    if not path.is_file() or "epochs" not in event:
        return None
    return Weights(
        path=path,
        epochs=plan.recipe.epochs + event["epochs"],
        trial=first.number,
        final=True,
    )


def _of_trial(run: Path, plan: Plan, complete: list[Trial]) -> Weights | None:
    """Give the weights of the first complete training that has any; all are of full length."""
    for trial in complete:
        path = weights_path(run, trial.number)
        if path.is_file():
            return Weights(
                path=path,
                epochs=plan.recipe.epochs,
                trial=trial.number,
                final=False,
            )
    return None
