"""Pages about one space and about one network, as text and as plain facts."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builders import Network, build_network, inference_network, load_official, merge_network
from builders.network import published_network
from evaluators.compliance import compliance
from evaluators.cost import cost
from evaluators.counting import Counted, count, meta_macs, num_params
from evaluators.data import load_data
from evaluators.latency import device_facts, measure_latency
from evaluators.passes import Backend
from evaluators.recipe import Recipe
from evaluators.sparsity import sparse_cost
from runs.console import plain
from runs.history import History
from runs.latencies import first_device
from runs.measures import measure_with
from runs.method_text import BACKENDS, disturbance_text
from runs.plan import load_plan, resolved_backend, resolved_device
from runs.ranking import block_text, kernels_text
from runs.records import RECORD_NAME, read_events
from search_space.acceptance import known_beforehand, require_acceptance
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.errors import RunError, nearest
from search_space.yaml_io import load_architecture, load_space

PUBLISHED_CLASSES = 1000
COUNTS = {
    "parameters": "params",
    "MACs": "macs",
    "fvcore total": "fvcore_total",
    "torch / 2": "meta_macs",
}
"""What a profile counts of every form: label and first part of the key."""

FORMS = {"train": "training form", "merged": "as published", "inference": "inference"}
"""Forms of a network: last part of the key and title."""


def space_page(
    source: str,
    *,
    size: tuple[int, int] | None,
    channels: int | None,
    classes: int,
    samples: int,
    seed: int,
) -> str:
    """Describe a space: axes, size, what its constraints leave, what it wastes, and a few samples.

    Raises:
        SpaceError: it cannot be read, or does not fit the images.
    """
    declared = load_space(source)
    note = "as the YAML says"
    if declared.size is None or declared.channels is None:
        shipped = load_data()
        note = "given by --size and --channels, or of the shipped data"
        size, channels = size or shipped.size, channels or shipped.channels
    space = replace(declared, size=size or declared.size, channels=channels or declared.channels)
    space.check_maps()
    assert space.size is not None
    census = Census(space)
    rng = np.random.default_rng(seed)
    lines = [
        f"{plain(space.name)}: input {space.size[0]}x{space.size[1]}x{space.channels} ({note})",
        "",
        "axes",
    ]
    axes = space.axes()
    width = max((len(name) for name in axes), default=0)
    lines += [f"  {name:{width}}  {axis.label()}" for name, axis in axes.items()] or [
        "  none: one network"
    ]
    lines += ["", f"distinct networks   {_count(census.size)}"]
    if census.impossible:
        lines.append(
            f"impossible          {census.impossible} combinations of a stage's values, never drawn"
        )
    if space.constraints:
        known = known_beforehand(space)
        accepted = require_acceptance(known, measure_with(classes), rng=rng)
        if known.constraints:
            lines.append(f"meet constraints    {accepted.text()}")
        if known is not space:
            lines.append(
                "latency_ms          judged when a search begins, which measures its device"
            )
        lines += [f"  {c.where}: {_interval(c.low, c.high)}" for c in space.constraints]
    wasted = census.wasted()
    if wasted:
        lines += ["", "choices that make nothing new"]
        lines += [f"  {line}" for line in wasted]
    sampled = (census.sample(rng) for _ in range(samples))
    drawn = list({network.id: network for network in sampled}.values())
    if drawn:
        lines += [
            "",
            f"{'sample':12}  {'kernels':22}  {'widths':12}  {'structure':10}  "
            f"{'parameters':>10}  {'MACs':>11}  block",
        ]
        lines += [_sample_line(network, classes) for network in drawn]
    return "\n".join(lines)


def profiled(
    name: str,
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    classes: int | None = None,
    weights: str | None = None,
    latency_device: str | None = None,
    latency_backend: Backend | None = None,
    batch_size: int = 1,
) -> dict[str, Any]:
    """Count a network in its training form, the one its authors publish, and for inference.

    Args:
        name: a published name, an architecture file, or RUN/ID.
        size: input in pixels instead of the network's own.
        channels: colours of the input instead of the network's own.
        classes: outputs of the classifier; 1000 where nothing else is known.
        weights: an official checkpoint of the network, to be read and merged; see `load_official`.
        latency_device: where to measure the merged network; None measures nothing.
        latency_backend: what runs it then; None is the default of the device.
        batch_size: images of a measured batch.

    Returns:
        Parameters and MACs in closed form, fvcore's totals and what it could not count, torch's
        count on the meta device, dead taps and compliance; where the network is sparse, what its
        zeros leave; latency and what the weights are where they were asked for.

    Raises:
        ReplkError: there is no such network, or it does not fit the input.
    """
    network, known_classes = find_network(name)
    network = replace(network, size=size or network.size, channels=channels or network.channels)
    loaded = load_official(weights, name) if weights is not None else None
    if loaded is not None:
        known_classes = loaded.state_dict()["head.classify.bias"].numel()
    if classes is not None and loaded is not None and classes != known_classes:
        raise RunError(
            f"--classes: must be {known_classes}, as the weights have, got {classes}; leave it out"
        )
    classes = classes or known_classes
    counted = cost(network, classes)
    with torch.device("meta"):
        trained = build_network(network, classes).eval()
    counts = _counted_forms(trained)
    scores = compliance(network)
    facts: dict[str, Any] = {
        "name": name,
        "id": network.id,
        "input": {"channels": network.channels, "size": list(network.size)},
        "classes": classes,
        "depth": counted.depth,
        "kernels": kernels_text(network.stages),
        **{
            f"{key}_{form}": getattr(counted, f"{key}_{form}")
            for key in ("params", "macs")
            for form in FORMS
        },
        "activations": counted.activations,
        **{f"fvcore_total_{form}": counts[form].fvcore_total for form in FORMS},
        "uncounted": counts["inference"].uncounted,
        "uncounted_train": counts["train"].uncounted,
        **{f"meta_macs_{form}": meta_macs(network, classes, form=form) for form in FORMS},
        "dead_taps": network.dead_taps,
        "compliance": {"s1": scores.s1, "s2": scores.s2, "s3": scores.s3, "s4": scores.s4},
    }
    if network.weights_sparsity:
        facts |= _sparse_facts(name, network, classes)
    if loaded is not None:
        facts["weights"] = _weights_facts(loaded, source=str(weights))
    if latency_device is not None:
        facts["latency"] = _latency(
            network,
            classes,
            device=resolved_device(latency_device),
            backend=latency_backend,
            batch_size=batch_size,
        )
    return facts


def profile_page(facts: dict[str, Any]) -> str:
    """Write the facts of a network for a person."""
    height, width = facts["input"]["size"]
    scores = "  ".join(
        f"{k.upper()} {'NA' if v is None else f'{v:.2f}'}" for k, v in facts["compliance"].items()
    )
    channels, classes = facts["input"]["channels"], facts["classes"]
    lines = [
        f"{facts['name']} ({facts['id']}), input {height}x{width}x{channels}, {classes} classes",
        f"kernels      {facts['kernels']}   depth {facts['depth']}",
        "",
        f"{'':12} " + " ".join(f"{title:>18}" for title in FORMS.values()),
        *(
            f"{label:12} " + " ".join(f"{facts[f'{key}_{form}']:>18,}" for form in FORMS)
            for label, key in COUNTS.items()
        ),
        "",
        "MACs are multiply-adds of convolutions, linear layers and matrix products for one image;",
        *textwrap.wrap(
            "fvcore's total adds norms and pooling as it counts them, and counts as zero: "
            + ", ".join(sorted(facts["uncounted"])),
            width=100,
            break_long_words=False,
        ),
        f"activations  {facts['activations']:,} outputs of the inference form's convolutions and "
        "linear layers",
        f"dead taps    {facts['dead_taps']:,} a channel, beyond every pixel of their map",
        f"guidelines   {scores}   (UniRepLKNet's four; NA: nothing to apply to)",
    ]
    if "params_nonzero" in facts:
        lines += [
            f"not zero     {facts['params_nonzero']:,} parameters of the training form, and "
            f"{facts['macs_nonzero']:,} MACs",
            f"             weighted by density ({facts['sparsity']})",
        ]
    if "weights" in facts:
        read = facts["weights"]
        difference = read["merge_difference"]
        merged = (
            "the logits are not finite"
            if difference is None
            else f"merged, the logits differ by {difference:.0e} in float64"
        )
        lines += [
            f"weights      {read['source']}: {read['dtype']}, {read['params_nonzero']:,} not zero;",
            f"             {merged}",
        ]
    if "latency" in facts:
        measured = facts["latency"]
        low, high = measured["low_ms"], measured["high_ms"]
        lines.append(
            f"latency      {measured['median_ms']:.3f} ms [{low:.3f}, {high:.3f}] for a batch of "
            f"{measured['batch_size']}, merged, {BACKENDS[measured['backend']]}, on "
            f"{measured['device']['name']}"
        )
        if measured["disturbed"]:
            said = f"disturbed: {disturbance_text(measured)}; measure again"
            lines += textwrap.wrap(said, 100, initial_indent=" " * 13, subsequent_indent=" " * 13)
    return "\n".join(lines)


def find_network(name: str) -> tuple[Architecture, int]:
    """Find a network and the number of its classes by published name, file, or RUN/ID.

    Raises:
        ReplkError: there is none.
    """
    path = Path(name)
    if not path.exists() and (path.parent / RECORD_NAME).exists():
        trials = History(read_events(path.parent)).trials.values()
        found = {trial.id: trial.architecture for trial in trials}
        if path.name not in found:
            raise RunError(
                f"{name}: must name a network of the run {path.parent}, got {path.name!r}; "
                f"{nearest(path.name, list(found)[:20])}"
            )
        return found[path.name], load_plan(path.parent).num_classes
    return load_architecture(name), PUBLISHED_CLASSES


def _sparse_facts(name: str, network: Architecture, classes: int) -> dict[str, Any]:
    """Say what the zeros of a sparse network leave: after its training in a run, or as forecast."""
    directory, trial_id = Path(name).parent, Path(name).name
    recipe = Recipe()
    if not Path(name).exists() and (directory / RECORD_NAME).exists():
        recipe = load_plan(directory).recipe
        for trial in History(read_events(directory)).trials.values():
            trained = trial.result.get("params_nonzero"), trial.result.get("macs_nonzero")
            same = trial.id == trial_id and trial.architecture == network
            if same and trial.counts and None not in trained:
                return {
                    "params_nonzero": trained[0],
                    "macs_nonzero": trained[1],
                    "sparsity": f"trained, {recipe.sparsity_init}",
                }
    sparse = sparse_cost(network, classes, method=recipe.sparsity_init)
    return {
        "params_nonzero": sparse.params_nonzero,
        "macs_nonzero": sparse.macs_nonzero,
        "sparsity": f"before training, {recipe.sparsity_init}",
    }


def _weights_facts(network: Network, *, source: str) -> dict[str, Any]:
    """Say what weights a network has, and how far merging moves its logits on two random images."""
    dtype = next(network.parameters()).dtype
    nonzero = sum(int(parameter.count_nonzero()) for parameter in network.parameters())
    architecture, double = network.architecture, network.double()
    images = torch.randn(
        2,
        architecture.channels,
        *architecture.size,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.inference_mode():
        expected = double(images)
        difference = (merge_network(double)(images) - expected).abs().max() / expected.abs().max()
    return {
        "source": source,
        "dtype": str(dtype).removeprefix("torch."),
        "params_nonzero": nonzero,
        "merge_difference": float(difference) if difference.isfinite() else None,
    }


def _counted_forms(trained: Network) -> dict[str, Counted]:
    """Count every form of a network, and what two forms share once."""
    size, channels = trained.architecture.size, trained.architecture.channels
    forms = {
        "train": trained,
        "merged": published_network(trained),
        "inference": inference_network(trained),
    }
    known: dict[int, Counted] = {}
    for form in forms.values():
        if num_params(form) not in known:
            known[num_params(form)] = count(form, size, channels)
    return {name: known[num_params(form)] for name, form in forms.items()}


def _latency(
    network: Architecture, classes: int, *, device: str, backend: Backend | None, batch_size: int
) -> dict[str, Any]:
    backend, device = resolved_backend(backend, device), first_device(device)
    deployed = inference_network(build_network(network, classes).eval())
    (measured,) = measure_latency(
        [deployed],
        deployed,
        size=network.size,
        channels=network.channels,
        device=device,
        batch_size=batch_size,
        budget_s=1.0,
        backend=backend,
    )
    return {
        "median_ms": measured.median_ms,
        "low_ms": measured.low_ms,
        "high_ms": measured.high_ms,
        "batch_size": batch_size,
        "backend": backend,
        "drift": measured.drift,
        "descheduled": measured.descheduled,
        "foreign": measured.foreign,
        "disturbed": measured.disturbed,
        "device": device_facts(device),
    }


def _sample_line(network: Architecture, classes: int) -> str:
    counted = cost(network, classes)
    widths = "|".join(map(str, network.widths))
    structures = "|".join(dict.fromkeys(stage.structure for stage in network.stages))
    return (
        f"{network.id}  {kernels_text(network.stages):22}  {widths:12}  {structures:10}  "
        f"{counted.params_inference:>10,}  {counted.macs_inference:>11,}  "
        f"{block_text(network.block, network.weights_sparsity)}"
    )


def _count(size: float) -> str:
    return f"{size:,}" if isinstance(size, int) else "infinitely many (a range of floats)"


def _interval(low: float | None, high: float | None) -> str:
    named = (("at least", low), ("at most", high))
    return " and ".join(f"{word} {end:,.10g}" for word, end in named if end is not None)
