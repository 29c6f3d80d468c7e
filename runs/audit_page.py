"""The command `audit`: train, compare, print, and write the audit into the run directory."""

from __future__ import annotations

import shlex
from pathlib import Path

from runs.audit import Audit
from runs.audit_figure import audit_figure
from runs.audit_text import page, tau_text, text
from runs.auditing import audited
from runs.console import Console
from runs.field_figure import png
from runs.folders import write_files


def begin(
    directory: Path,
    *,
    networks: int,
    factor: float,
    workers: int | None = None,
    quiet: bool = False,
    cache: Path | None = None,
) -> None:
    """Audit a finished run, print what it says and write it down.

    Raises:
        ReplkError: see `audited`; or a file cannot be written.
    """
    audit = audited(
        directory,
        networks=networks,
        factor=factor,
        workers=workers,
        quiet=quiet,
        cache=cache,
    )
    command = ["replk-search", "audit", str(directory)]
    command += ["--networks", str(networks), "--factor", f"{factor:g}"]
    paths = write(directory, audit, shlex.join(command))
    terminal = Console(0, workers=1).terminal
    terminal.print(page(audit, paths), soft_wrap=True)


def write(directory: Path, audit: Audit, command: str) -> list[Path]:
    """Write audit.md, audit.csv and figures/audit.png.

    Raises:
        RunError: one of them cannot be written.
    """
    figure = audit_figure(
        audit.frame,
        metric=audit.metric,
        factor=audit.factor,
        title=f"{audit.name}: tau {tau_text(audit.proxies[0].tau)}",
    )
    contents = {"audit.md": text(audit, command), "audit.csv": audit.frame.to_csv(index=False)}
    return [
        *write_files(directory, contents),
        *write_files(directory / "figures", {"audit.png": png(figure)}),
    ]
