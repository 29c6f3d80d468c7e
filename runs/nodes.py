"""Jobs on other machines: what a node must have of a run, and how its files come back.

A node that sees the run directory (the driver's machine, or a shared disk) reads and writes there.
Any other has a folder of its own for the session, its *home*, and asks for files as it needs them:

    driver                                      node
    with marked(run) as token:                  with node_home(token) as home:
        sent = parcel(job, run, token)  ---->       job = unpacked(sent, home, fetch)
        contents(path)                  <--->       fetch(path)
                                                    ... the job runs in a child ...
        store(run, files)               <----       files = written(sent, home)

What carries them is not this module's concern. Images are never sent: a node decodes them once from
their source, which it must reach by the same path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from builders.backends import Backends
from builders.native import is_whole, loaded, processor, seal
from runs.images import DataSource, write_copy
from runs.records import write_atomic
from runs.workers import Job
from search_space.errors import DataError, RunError

logger = logging.getLogger(__name__)

MARKER_NAME = ".token"
"""File in the run directory by which a node knows that it sees it."""

READ = ("start", "goes_on")
"""Fields of a job that name a file it reads, relative to its run directory."""
WRITTEN = ("weights", "checkpoint")
"""Fields that name a file it writes."""

Fetch = Callable[[str], bytes | None]
"""Gives the content of a file of the driver by its absolute path; None where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """A job on its way to a node; can be pickled."""

    job: Job
    run: str
    """Run directory on the driver, absolute."""
    token: str
    """Of the session."""
    name: str
    """Of this parcel, told by no other."""
    processor: str
    """Digest of what the driver's compiled library is for."""


@contextlib.contextmanager
def marked(run: Path) -> Iterator[str]:
    """Let nodes know the run directory for a `with` block; gives the token of the session.

    Where the directory is not there yet, no node sees it.

    Raises:
        RunError: it cannot be written.
    """
    token = secrets.token_hex(8)
    marker = run / MARKER_NAME
    if run.is_dir():
        write_atomic(marker, token)
    try:
        yield token
    finally:
        with contextlib.suppress(OSError):
            marker.unlink()


def parcel(job: Job, run: Path, token: str) -> Parcel:
    """Pack a job of a run; reads no file."""
    return Parcel(
        job=job,
        run=str(run.resolve()),
        token=token,
        name=secrets.token_hex(8),
        processor=_processor(),
    )


def contents(path: str) -> bytes | None:
    """Read a file of the driver for a node; None where it is gone.

    Raises:
        RunError: it is there and cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(
            f"{path}: must be a file that can be read, {error.strerror}; repair it"
        ) from error


def store(run: Path, files: Mapping[str, bytes]) -> None:
    """Write what a job wrote on its node into the run directory, each file whole or not at all.

    Args:
        run: run directory.
        files: contents by names relative to it.

    Raises:
        RunError: one cannot be written.
        ValueError: a name leads out of the directory.
    """
    for name, content in files.items():
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"files of a job must lie in the run directory, got {name!r}")
        path = run / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{path}: could not be written, {error.strerror}; make room on the disk"
            ) from error
        write_atomic(path, content)


@contextlib.contextmanager
def node_home(token: str) -> Iterator[Path]:
    """Share the folder of a session with the other processes of this node for a `with` block.

    The last one to leave removes it; what killed ones left behind is removed by the next pool of
    this machine, as the folders of pools are.

    Raises:
        RunError: somebody else's folder has its name.
    """
    folder = Path(tempfile.gettempdir()) / f"replk-search-{os.getuid()}-{token}"
    descriptor = _entered(folder)
    try:
        yield folder
    finally:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def quiet_folder() -> Path:
    """Give the folder of this node's lock for quiet, the same for all sessions of a user; it stays.

    Its name is none that the next pool takes for an abandoned one.

    Raises:
        RunError: somebody else's folder has its name.
    """
    folder = Path(tempfile.gettempdir()) / f"replk-quiet-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RunError(f"{folder}: must be a folder of ours, somebody else made it; remove it")
    return folder


def unpacked(sent: Parcel, home: Path, fetch: Fetch) -> Job:
    """Give the job of a parcel as this node can run it; call `written` once it is over.

    The lock for quiet is always that of this node. A compiled library is used on processors like
    the driver's alone. On any other, torch takes its place, and a line in the log says so: what was
    compiled would at best not load, and what this node could compile rounds otherwise, under
    another name than the record keeps.

    Args:
        sent: what the driver packed.
        home: of this node.
        fetch: asks the driver for files.

    Raises:
        RunError: the images are not on this node, or the home cannot be written.
    """
    sees = _sees(sent)
    run = Path(sent.run) if sees else home / sent.name
    if not sees:
        for name in _reads(sent.job.payload):
            # A job says itself what it does without a file that is gone.
            if (content := fetch(str(Path(sent.run) / name))) is not None:
                store(run, {name: content})
        run.mkdir(exist_ok=True)

    def images(source: DataSource) -> DataSource:
        return source if sees or source.copy is None else _decoded(source, home, sent.run)

    def library(path: str | None) -> str | None:
        return path and _library(path, sent, home, fetch)

    def backends(chosen: Backends) -> Backends:
        return _with_library(chosen, library(chosen.library))

    payload = sent.job.payload
    places: dict[str, Callable[[Any], Any]] = {
        "quiet": lambda _: str(quiet_folder()),
        "run": lambda _: str(run),
        "data": images,
        "library": library,
        "backends": backends,
    }
    if isinstance(payload, DataSource):
        payload = images(payload)
    elif is_dataclass(payload) and not isinstance(payload, type):
        known = {field.name for field in fields(payload)} & {*places}
        payload = replace(payload, **{key: places[key](getattr(payload, key)) for key in known})
    return replace(sent.job, payload=payload)


def written(sent: Parcel, home: Path) -> dict[str, bytes]:
    """Give the files that a job wrote, by names relative to its run, and clear up after it.

    Empty where it wrote into the run directory itself.
    """
    folder = home / sent.name
    found = {}
    for name in _named(sent.job.payload, WRITTEN):
        with contextlib.suppress(FileNotFoundError):
            found[name] = (folder / name).read_bytes()
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _sees(sent: Parcel) -> bool:
    """Say whether the driver's run directory is to be seen from here."""
    try:
        return (Path(sent.run) / MARKER_NAME).read_text("ascii") == sent.token
    except (OSError, ValueError):
        return False


def _named(payload: Any, names: tuple[str, ...]) -> list[str]:
    return [file for name in names if (file := getattr(payload, name, None)) is not None]


def _reads(payload: Any) -> list[str]:
    return _named(payload, READ) + [file for _, file in getattr(payload, "networks", ())]


def _processor() -> str:
    return hashlib.sha256(processor().encode()).hexdigest()[:16]


def _entered(folder: Path) -> int:
    """Make a home, or find it, and hold its lock beside others; gives the lock's descriptor."""
    while True:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(folder, flags)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RunError(f"{folder}: must be a folder of ours, {error.strerror}") from error
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # The last of those before us may have removed it meanwhile.
        try:
            same = os.path.samestat(os.fstat(descriptor), folder.lstat())
        except FileNotFoundError:
            same = False
        if same and os.fstat(descriptor).st_uid == os.getuid():
            return descriptor
        os.close(descriptor)
        if same:
            raise RunError(f"{folder}: must be a folder of ours, somebody else made it")


def _decoded(source: DataSource, home: Path, run: str) -> DataSource:
    """Give the images as this node has decoded them, once for all its workers."""
    folder = home / f"images-{source.sha256[:16]}"
    with (home / ".images-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            try:
                data = source.original()
            except DataError as error:
                raise RunError(
                    f"node {socket.gethostname()}: must reach the images of the run by the same "
                    f"path as the driver, as it does not see {run}; got: {error}; copy them there"
                ) from error
            draft = home / "images-draft"
            write_copy(data, draft)
            draft.rename(folder)
    return replace(source, copy=str(folder))


def _library(path: str, sent: Parcel, home: Path, fetch: Fetch) -> str | None:
    """Give the compiled library here; None, and once a node a line in the log, where it is not."""
    original = Path(path)
    own = home / original.name
    why = "it is for another processor"
    if _processor() == sent.processor:
        if not is_whole(original) and not is_whole(own):
            for file in (seal(original), original):
                if (content := fetch(str(file))) is not None:
                    store(home, {file.name: content})
        why = "it did not arrive"
        for found in filter(is_whole, (original, own)):
            try:
                loaded(str(found))
            except OSError as error:
                why = str(error)
            else:
                return str(found)
    with contextlib.suppress(FileExistsError):
        own.with_suffix(".refused").touch(exist_ok=False)
        logger.warning(
            "node %s: trains by torch in place of %s, which is slower and rounds otherwise: %s",
            socket.gethostname(),
            original.name,
            why,
        )
    return None


def _with_library(chosen: Backends, library: str | None) -> Backends:
    if chosen.library is None or library is not None:
        return replace(chosen, library=library)
    return Backends(
        rest="torch" if chosen.rest == "native" else chosen.rest,
        chosen={key: "torch" if n == "native" else n for key, n in chosen.chosen.items()},
    )
