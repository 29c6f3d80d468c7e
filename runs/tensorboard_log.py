"""The log of a search for TensorBoard: `--tensorboard DIR`, shown by `tensorboard --logdir DIR`.

DIR/<run>/ holds the run over its finished trials (best score, hypervolume, each trial's values),
DIR/<run>/trial-0007/ what one trial was and came to: hyperparameters, values, learning curve.
Written with tensorboardX, which Ray Tune brings: TensorBoard itself is needed to look, not to log.
Its format keeps numbers as 32-bit floats.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import hparams, scalar

from runs.history import Trial
from runs.live import CURVE, Progress, curve, parameters, scalars
from runs.mirror import Target
from runs.optuna_export import owner
from runs.plan import Plan
from search_space.errors import RunError

OWNER_NAME = ".replk-search-run"
"""File that tells the log of a run from that of another one whose directory has the same name."""
EVENTS = "events.out.tfevents"
"""What the names of TensorBoard's files begin with."""


class Log:
    """The folder of one run; knows which trials are in it."""

    def __init__(self, folder: Path, plan: Plan, progress: Progress) -> None:
        """Open the folder, which is made.

        Args:
            folder: of the run's log.
            plan: of the run.
            progress: of the run up to the trials that were told before, if any.

        Raises:
            RunError: it is of another run.
            OSError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        _claim(folder / OWNER_NAME, owner(plan))
        self.folder = folder
        self._progress = progress
        self._steps = {
            event.step
            for path in folder.glob(f"{EVENTS}*")
            for event in read_events(path)
            if event.HasField("summary")
        }
        self._run: RecordWriter | None = None

    def add(self, trial: Trial) -> None:
        """Add a finished trial, once; trials come in the order they finished."""
        values, now = scalars(trial), time.time()
        step = self._progress.step(trial)
        if step not in self._steps:
            of_run = self._progress.values(trial)
            of_run |= {f"trials/{name}": value for name, value in values.items()}
            # A file of its own each session: one whose end a kill tore off cannot be gone on with.
            self._run = self._run or _begun(self.folder / _file_name())
            _write(self._run, _event(_summary(of_run), step, now))
            self._run.flush()
            self._steps.add(step)
        inner = self.folder / f"trial-{trial.number:04d}"
        if not any(inner.glob(f"{EVENTS}*")):
            events = [_event(part, 0, now) for part in hparams(parameters(trial), values)]
            events += [_event(scalar(CURVE, loss), at, now) for at, loss in curve(trial)]
            events.append(_event(_summary(values), int(trial.result.get("steps") or 0), now))
            inner.mkdir(exist_ok=True)
            _write_whole(inner / _file_name(), events)

    def end(self) -> None:
        """Close the file of the session."""
        if self._run is not None:
            self._run.close()


def tensorboard_target(place: Path, plan: Plan, directory: Path) -> Target:
    """Give the TensorBoard log of a run as something to mirror to.

    Args:
        place: folder of logs; that of the run has the name of the run's directory.
        plan: of the run.
        directory: of the run.
    """
    progress = Progress(plan)
    return Target(
        option="--tensorboard",
        place=str(place),
        open=lambda: Log(place / directory.resolve().name, plan, progress),
        advice=f"'replk-search resume {directory} --tensorboard DIR' logs what is missing",
    )


def read_events(path: Path) -> Iterator[Event]:
    """Give the events of a file up to where it was cut off.

    A record is its length (8 bytes), a checksum (4), the event, and a checksum (4).
    """
    content, start = path.read_bytes(), 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        body, start = content[start + 12 : start + 12 + length], start + 16 + length
        if start <= len(content):
            yield Event.FromString(body)


def _claim(path: Path, name: str) -> None:
    if not path.exists():
        path.write_text(name, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != name:
        raise RunError(f"the log {str(path.parent)!r} is of another run")


def _file_name() -> str:
    # TensorBoard reads the files of a folder in the order of their names.
    now = time.time_ns()
    return f"{EVENTS}.{now // 10**9}.{socket.gethostname()}.{os.getpid()}.{now}"


def _begun(path: Path) -> RecordWriter:
    writer = RecordWriter(str(path))
    _write(writer, Event(wall_time=time.time(), file_version="brain.Event:2"))
    return writer


def _write_whole(path: Path, events: list[Event]) -> None:
    """Write a file that has its name once all is in it."""
    draft = path.with_name(f".{path.parent.name}.tmp")
    writer = _begun(draft)
    for event in events:
        _write(writer, event)
    writer.close()
    draft.rename(path)


def _write(writer: RecordWriter, event: Event) -> None:
    writer.write(event.SerializeToString())


def _summary(values: Mapping[str, float]) -> Summary:
    """Give all values as one summary, so that a file has all of them or none."""
    return Summary(value=[Summary.Value(tag=name, simple_value=v) for name, v in values.items()])


def _event(summary: Summary, step: int, now: float) -> Event:
    return Event(wall_time=now, step=step, summary=summary)
