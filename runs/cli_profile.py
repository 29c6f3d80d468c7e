"""The words of the command `profile`; like `runs/cli.py` it imports its modules in its function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from runs.options import AS_JSON, DEVICE, LATENCY_BACKEND, LATENCY_BATCH, size_option


@click.command()
@click.argument("net")
@AS_JSON
@click.option(
    "--size",
    callback=size_option,
    metavar="HxW",
    help="Input in pixels instead of the network's own.",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    help="Colours of the input instead of the network's own.",
)
@click.option(
    "--classes",
    type=click.IntRange(min=1),
    help="Outputs of the classifier.  [default: 1000, or those of the run]",
)
@click.option(
    "--weights",
    metavar="FILE",
    help="Read an official checkpoint of the network too: a file, or hf:OWNER/REPOSITORY/FILE.",
)
@click.option("--latency", is_flag=True, help="Measure the merged network on this machine too.")
@click.option(
    "--roofline",
    is_flag=True,
    help="Measure every layer against the peak and the bandwidth of this machine too.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Directory of the roofline's files.  [default: results/roofline-<net>-<time>]",
)
@DEVICE
@LATENCY_BACKEND
@LATENCY_BATCH
@click.pass_context
def profile(
    context: click.Context,
    *,
    net: str,
    as_json: bool,
    size: tuple[int, int] | None,
    channels: int | None,
    classes: int | None,
    weights: str | None,
    latency: bool,
    roofline: bool,
    out: Path | None,
    device: str,
    latency_backend: Literal["onnxruntime", "torch"] | None,
    latency_batch: int,
) -> None:
    """Count a network: a published name, an architecture file, or RUN/ID."""
    from runs.describe import profile_page, profiled

    if out is not None and not roofline:
        raise click.UsageError("--out: must stand with --roofline; remove it", context)
    if latency_backend is not None and not latency:
        raise click.UsageError("--latency-backend: must stand with --latency; remove it", context)
    if latency_batch > 1 and not (latency or roofline):
        raise click.UsageError(
            "--latency-batch: must stand with --latency or --roofline; remove it", context
        )
    if roofline:
        from runs.roofline_page import add_roofline, check_directory, roofline_text

        check_directory(net, out)
    facts = profiled(
        net,
        size=size,
        channels=channels,
        classes=classes,
        weights=weights,
        latency_device=device if latency else None,
        latency_backend=latency_backend,
        batch_size=latency_batch,
    )
    page = "" if as_json else profile_page(facts)
    if roofline:
        facts = add_roofline(facts, device=device, batch_size=latency_batch, out=out)
        page += f"\n\n{roofline_text(facts['roofline'])}"
    click.echo(json.dumps(facts, indent=2) if as_json else page)
