"""How a command ends: its exit code, its last sentence, and what a signal does."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import click

from search_space.errors import ReplkError, WorkFailed

INTERRUPTED = 130
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""No mistake of ours wherever it comes."""


def run(action: Callable[[], Any]) -> int:
    """Run a command and give its exit code.

    Returns:
        0 done, 1 the work failed, 2 the user's mistake, 130 interrupted.
    """
    try:
        action()
    except ReplkError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as stopped:
        # click turns Ctrl-C into an Abort that says nothing.
        said = stopped.__cause__ if isinstance(stopped, click.Abort) else stopped
        click.echo(f"\nInterrupted. {said or ''}".rstrip(), err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough of it; keep Python from writing to it at exit.
        sys.stdout = None
        return 0
    except OSError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {where}the disk takes no more, {error.strerror}", err=True)
        return WorkFailed.exit_code
    return 0


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM: raise KeyboardInterrupt, but never while a child is being started.

    Meanwhile the main thread holds SIGINT back. Another thread, as that of the live table, may take
    it in all the same: then it is given back to the main thread, where it waits.
    """
    if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return
    raise KeyboardInterrupt
