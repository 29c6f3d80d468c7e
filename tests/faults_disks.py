"""Disks that are full, small or read-only: real mounts where the tests may make them."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs.records import RECORD_NAME, Records, encode

PAGE = 4096
"""Bytes that a tmpfs gives a file at a time."""


def _mount(*words: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a mount of its own, which takes root: {done.stderr.strip()}")


class SmallDisk:
    """A file system of a few megabytes, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / ".ballast"

    def fill(self) -> None:
        """Leave no room for another page."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * PAGE)

    def make_room(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(path: Path, *, megabytes: int = 8) -> Iterator[SmallDisk]:
    """Mount one at a new directory; skips the test where that is not allowed."""
    path.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "none", path)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Make a directory read-only, also for root."""
    if os.geteuid():
        mode = path.stat().st_mode
        path.chmod(0o555)
        try:
            yield
        finally:
            path.chmod(mode)
        return
    _mount("--bind", path, path)
    try:
        _mount("-o", "remount,ro,bind", path)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def fill_last_page(records: Records) -> None:
    """Let the record end where a page ends, so that the next event needs a new one."""
    size = (records.directory / RECORD_NAME).stat().st_size
    seq = records.events[-1]["seq"] + 1
    bare = len(encode({"seq": seq, "event": "padding", "text": ""}))
    records.append("padding", text="x" * (-(size + bare) % PAGE))
    assert (records.directory / RECORD_NAME).stat().st_size % PAGE == 0


@contextlib.contextmanager
def largest_file(size: int, pid: int = 0) -> Iterator[None]:
    """Let a process, this one by default, write no file beyond a size: partly, then EFBIG."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG))
"""What the system says of a file that does not fit."""
