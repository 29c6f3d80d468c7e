"""The job of a trial: what its child trains, and the files that it reads and writes."""

from __future__ import annotations

from pathlib import Path

from runs.history import Trial
from runs.jobs import JobKey
from runs.objective import TrainJob, train_network
from runs.plan import Plan
from runs.workers import Job


def training_job(
    plan: Plan,
    trial: Trial,
    *,
    directory: Path,
    device: str,
    images: int,
    time_limit_s: float,
    memory_bytes: int,
    gpu_share: float,
) -> Job:
    """Describe the training of a trial to its length, from where the trial before it stopped.

    Args:
        plan: of the run.
        trial: to be trained.
        directory: of the run.
        device: where.
        images: of a batch that go through the network at a time.
        time_limit_s: for the training.
        memory_bytes: of main memory that it may take.
        gpu_share: part of a GPU that it may take.
    """
    full = trial.length == 1
    return Job(
        key=JobKey(kind="train", trials=(trial.number,)),
        function=train_network,
        payload=TrainJob(
            architecture=trial.architecture,
            seed=trial.seed,
            recipe=plan.recipe,
            data=plan.data,
            device=device,
            run=str(directory),
            quiet=str(directory),
            weights=weights_name(trial.number) if full else None,
            checkpoint=None if full else checkpoint_name(trial.number),
            goes_on=None if trial.continues is None else checkpoint_name(trial.continues),
            backends=plan.backends,
            length=trial.length,
            micro_batch=images if images < plan.recipe.batch_size else None,
            gpu_share=gpu_share,
        ),
        time_limit_s=time_limit_s,
        memory_limit_bytes=memory_bytes,
    )


def weights_name(number: int) -> str:
    """Name the file of a trial's weights in its run directory."""
    return f"weights/{number}.safetensors"


def checkpoint_name(number: int) -> str:
    """Name the file that a training goes on from, in its run directory."""
    return f"checkpoints/{number}.pt"


def weights_path(directory: Path, number: int) -> Path:
    """Give the file of a trial's weights."""
    return directory / weights_name(number)
