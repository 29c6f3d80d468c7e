"""The record of a run: an append-only file of events, each with its own checksum.

`RUN/trials.jsonl` is the only truth about a run; tables, figures and the sampler's memory are
rebuilt from it. One line is one event: compact JSON whose last key `crc` is the CRC-32 of the same
JSON without it. A line is on the disk before `append` returns, so a run killed at any moment loses
at most the event that was being written, and a reader never sees a line that was not written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import socket
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from search_space.errors import RunError, WorkFailed

logger = logging.getLogger(__name__)

SCHEMA = 1
"""Version of the events' meaning; a file with a higher one is refused."""

RECORD_NAME = "trials.jsonl"
LOCK_NAME = ".lock"
MARK_NAME = ".trials.count"
"""How many events were ever acknowledged; tells an emptied record from a new one."""

Event = dict[str, Any]
"""What one line says, without its `crc`: `seq`, `event` (the name) and the event's own fields."""

_CHECKSUM = re.compile(rb',"crc":"([0-9a-f]{8})"\}\Z')


def encode(event: Event) -> bytes:
    r"""Return the line of an event, newline included.

    Text is escaped to ASCII, so that any string, lone surrogates too, survives the round trip.

    Raises:
        ValueError: a number is NaN or infinite; the caller decides what stands for it (null).
    """
    body = json.dumps(event, allow_nan=False, separators=(",", ":")).encode("ascii")
    return b'%s,"crc":"%08x"}\n' % (body[:-1], zlib.crc32(body))


def decode(line: bytes) -> Event | None:
    """Return the event of a line without its newline, or None where the line is damaged."""
    found = _CHECKSUM.search(line)
    if found is None:
        return None
    body = line[: found.start()] + b"}"
    if zlib.crc32(body) != int(found[1], 16):
        return None
    try:
        event = json.loads(body, object_pairs_hook=_sharing)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or type(event.get("seq")) is not int or event["seq"] < 0:
        return None
    return event if isinstance(event.get("event"), str) else None


def _sharing(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose texts, which come in thousands of events, are in memory once."""
    return {
        sys.intern(key): sys.intern(value) if type(value) is str else value for key, value in pairs
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a record file holds."""

    events: list[Event]
    """The undamaged events by `seq`, each once."""
    end: int
    """Length in bytes up to the end of the last undamaged line."""
    bad_lines: int
    """Damaged lines before that."""
    torn: int = 0
    """Bytes behind it."""


def scan(content: bytes) -> Scan:
    """Read the bytes of a record file; damage costs the lines it hits and nothing else.

    A line repeated by an accident of copying counts once, by its `seq`.
    """
    by_seq: dict[int, Event] = {}
    start = end = bad_lines = bad_since = 0
    while (newline := content.find(b"\n", start)) >= 0:
        event = decode(content[start:newline])
        start = newline + 1
        if event is None:
            bad_since += 1
            continue
        by_seq.setdefault(event["seq"], event)
        end, bad_lines, bad_since = start, bad_lines + bad_since, 0
    events = [by_seq[seq] for seq in sorted(by_seq)]
    return Scan(events=events, end=end, bad_lines=bad_lines, torn=len(content) - end)


def header_of(events: Sequence[Event]) -> Event | None:
    """Give the header of a record; None where it was lost."""
    return events[0] if events and events[0]["event"] == "header" else None


def read_events(directory: Path | str) -> list[Event]:
    """Return the events of a run without locking it, also while another process writes.

    Raises:
        RunError: there is no record, it was emptied, or a newer program wrote it.
    """
    directory = Path(directory)
    return _load(directory, acknowledged(directory)).events


def acknowledged(directory: Path) -> int:
    """Give how many events of a run were ever acknowledged; 0 where nobody knows."""
    try:
        text = (directory / MARK_NAME).read_bytes()[:13].strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


class Records:
    """The record of one run, open for appending by this process alone.

    Use it as a context manager; `close` gives the run free for others.
    """

    def __init__(self, directory: Path, *, lock: int, found: Scan, mark: int) -> None:
        """Take over the lock's descriptor; use `create` or `open` instead."""
        self.directory = directory
        self.events: list[Event] = found.events
        """All events in order; append through `append` only."""
        self._lock = lock
        self._end = found.end
        last = found.events[-1]["seq"] if found.events else -1
        # A number is never given twice, not even where its line was lost.
        self._next = max(last + 1, mark)
        self._record = os.open(directory / RECORD_NAME, os.O_RDWR | os.O_CLOEXEC)
        self._mark = os.open(directory / MARK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @classmethod
    def create(cls, directory: Path | str, header: dict[str, Any]) -> Records:
        """Start the record of a new run with a `header` event; makes the directory.

        Raises:
            RunError: the directory holds a run already, is in use, or cannot be written.
        """
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(directory, error) from error
        with _lock_or_close(directory) as lock:
            if (directory / RECORD_NAME).exists() or acknowledged(directory):
                raise RunError(
                    f"{directory}: must not hold a run yet, got one; "
                    f"continue it with `replk-search resume {directory}`"
                )
            first: Event = {"seq": 0, "event": "header", "schema": SCHEMA, **header}
            line = encode(first)
            # The file appears with its header or not at all.
            write_atomic(directory / RECORD_NAME, line)
            records = cls(
                directory, lock=lock, found=Scan(events=[first], end=len(line), bad_lines=0), mark=1
            )
        records._write_mark()
        os.fsync(records._mark)
        _sync_directory(directory)
        return records

    @classmethod
    def open(cls, directory: Path | str) -> Records:
        """Open the record of an existing run for appending and repair it.

        A torn or damaged tail is cut off; damaged lines before it are skipped and logged.

        Raises:
            RunError: there is no run, it was emptied, another process has it open, or a newer
                program wrote it.
        """
        directory = Path(directory)
        if not directory.is_dir():
            raise RunError(f"{directory}: must be the directory of a run, there is none; see --out")
        with _lock_or_close(directory) as lock:
            mark = acknowledged(directory)
            found = _load(directory, mark)
            try:
                records = cls(directory, lock=lock, found=found, mark=mark)
                os.ftruncate(records._record, found.end)
                os.fsync(records._record)
            except OSError as error:
                raise _unwritable(directory, error) from error
        records._write_mark()
        return records

    @property
    def header(self) -> Event | None:
        """The first event of the run; None where damage took that line."""
        return header_of(self.events)

    def append(self, event: str, **fields: Any) -> Event:
        """Write one event and return it once it is on the disk.

        Raises:
            WorkFailed: the disk is full or failing; the record is as it was before.
            ValueError: a field is named `seq` or `crc`, or a number is not finite.
        """
        if fields.keys() & {"seq", "crc"}:
            raise ValueError(f"an event's fields cannot be named seq or crc, got {sorted(fields)}")
        entry: Event = {"seq": self._next, "event": event, **fields}
        line = encode(entry)
        try:
            # Cuts what a failed attempt may have left; costs nothing when the length is right.
            os.ftruncate(self._record, self._end)
            written = os.pwrite(self._record, line, self._end)
            if written != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._record)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._record, self._end)
            raise WorkFailed(
                f"{self.directory / RECORD_NAME}: event {event!r} could not be written, "
                f"{error.strerror}; everything before it is safe: make room, then continue with "
                f"`replk-search resume {self.directory}`"
            ) from error
        self._end += len(line)
        self._next += 1
        body = line[: line.rindex(b',"crc"')] + b"}"
        self.events.append(json.loads(body, object_pairs_hook=_sharing))
        self._write_mark()
        return self.events[-1]

    def close(self) -> None:
        """Give the run free; a second call does nothing."""
        for descriptor in (self._record, self._mark, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._record = self._mark = self._lock = -1

    def __enter__(self) -> Self:
        """Return the open record."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the record."""
        self.close()

    def _write_mark(self) -> None:
        # Not synced: it may lag behind after a power cut, it must never run ahead.
        with contextlib.suppress(OSError):
            os.pwrite(self._mark, b"%012d\n" % self._next, 0)


def write_atomic(path: Path | str, content: str | bytes) -> None:
    """Replace a file as a whole: whoever reads it, now or after a crash, sees old or new.

    Raises:
        RunError: it could not be written; the old file is still there.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RunError(
            f"{path}: could not be written, {error.strerror}; "
            f"the file before it, if any, is unchanged"
        ) from error


def _load(directory: Path, mark: int) -> Scan:
    path = directory / RECORD_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if mark:
            raise _emptied(path, mark) from None
        raise RunError(
            f"{directory}: must hold {RECORD_NAME}, it does not; is it the directory of a run?"
        ) from None
    except OSError as error:
        raise RunError(f"{path}: must be a readable file, {error.strerror}") from error
    found = scan(content)
    if not found.events:
        # `create` never leaves a file without its header: something else emptied it.
        raise _emptied(path, mark)
    first = found.events[0]
    schema = first.get("schema") if first["event"] == "header" else SCHEMA
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise RunError(
            f"{path}: schema must be at most {SCHEMA}, got {schema!r}; "
            f"a newer replk-search wrote it: update this one"
        )
    lost = max(mark, found.events[-1]["seq"] + 1) - len(found.events)
    if found.bad_lines or lost > 0:
        told = [_damage(found.bad_lines, "damaged line was", "damaged lines were", "skipped")]
        told.append(_damage(lost, "event is", "events are", "lost"))
        logger.warning("%s: %s", path, ", ".join(filter(None, told)))
    return found


def _damage(count: int, one: str, more: str, what: str) -> str:
    return f"{count} {one if count == 1 else more} {what}" if count > 0 else ""


def _emptied(path: Path, mark: int) -> RunError:
    held = f"it held {mark} events" if mark else "a run always writes its header first"
    return RunError(
        f"{path}: was emptied or overwritten, {held} and none is readable now; "
        f"restore it from a copy, or start anew with another --out"
    )


def _unwritable(directory: Path, error: OSError) -> RunError:
    return RunError(
        f"{directory}: must be a directory that can be written, {error.strerror}; "
        f"make it so, or choose another with --out"
    )


def _sync_directory(directory: Path) -> None:
    # A new name is on the disk only once its directory is.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _lock_or_close(directory: Path) -> Iterator[int]:
    """Yield a descriptor that locks the run; closed again only where the block fails."""
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            raise RunError(
                f"{directory}: must not be in use, it is by {owner}; wait for it, or end it first"
            ) from None
        except OSError as error:
            logger.warning(
                "%s: this file system cannot lock files (%s); start no second process on this run",
                directory,
                error.strerror,
            )
        text = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
        with contextlib.suppress(OSError):
            os.ftruncate(lock, 0)
            os.pwrite(lock, text, 0)
        yield lock
    except BaseException:
        os.close(lock)
        raise
