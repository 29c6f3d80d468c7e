"""How a command ends: its exit code, its last sentence, and what a signal does."""

from __future__ import annotations

import contextlib
import errno
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import click

from search_space.errors import ReplkError, WorkFailed

INTERRUPTED = 130
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a search."""
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""No mistake of ours wherever it comes."""
CLEAN_UP_S = 10.0
"""Seconds in which a second signal does not disturb what the first one began; it takes up to five.

Afterwards it counts again, in case the first was lost where Python drops exceptions.
"""


def run(action: Callable[[], Any]) -> int:
    """Run a command and give its exit code.

    Returns:
        0 done, 1 the work failed, 2 the user's mistake, 130 interrupted.
    """
    try:
        action()
    except ReplkError as error:
        _say(f"Error: {error}")
        return error.exit_code
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as stopped:
        # click turns Ctrl-C into an Abort that says nothing.
        said = stopped.__cause__ if isinstance(stopped, click.Abort) else stopped
        _say(f"\nInterrupted. {said or ''}".rstrip())
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough of it; keep Python from writing to it at exit.
        sys.stdout = None
        return 0
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _say(f"Error: {where}the disk takes no more, {error.strerror}")
        return WorkFailed.exit_code
    return 0


class Interrupt:
    """Handles a signal that ends a command: raises KeyboardInterrupt, and lets it do its work.

    Never while a child is being started: meanwhile the main thread holds SIGINT back. Another
    thread, as that of the live table, may take it in all the same; then it is given back to the
    main thread, where it waits.

    Nor while the first one is being obeyed: whoever presses Ctrl-C twice, or has a launcher that
    passes on what the terminal has sent already, gets the same clean end.
    """

    def __init__(self) -> None:
        self._obeyed_until = -math.inf

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, now, later or not again."""
        if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            return
        now = time.monotonic()
        if now >= self._obeyed_until:
            self._obeyed_until = now + CLEAN_UP_S
            raise KeyboardInterrupt


def end_on_signals() -> None:
    """End by SIGTERM, which a scheduler sends, and by SIGHUP of a closed terminal as by Ctrl-C."""
    handler = Interrupt()
    for number in ENDING:
        # Under nohup the terminal may go.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Let none of these signals change the exit code of a program that has ended its work.

    While Python takes itself down it has no handlers any more, but what is ignored stays so.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _say(text: str) -> None:
    """Write a last sentence, as long as there is still a terminal."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
