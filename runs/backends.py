"""The backends of a run: compiled, probed and frozen when it begins, found again when it goes on.

Everything here is about speed. What was chosen stands in run.yaml all the same: backends agree to
rounding only, and a resumed or repeated run computes the same to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from builders.backends import AUTO, BACKEND_NAMES, BackendName, Backends, SumShape
from builders.native import NoCompiler, compiled, is_whole
from evaluators.latency import device_facts
from evaluators.probe import candidates, probed_shape, sum_shapes
from runs.anchors import first_networks
from runs.jobs import TIME_LIMIT_S, JobKey, Slots, single
from runs.latencies import first_device
from runs.objective import ProbeJob, probe_shapes
from runs.plan import Plan
from runs.records import write_atomic
from runs.workers import Job
from search_space.architecture import Architecture
from search_space.census import Census
from search_space.errors import RunError, WorkFailed

logger = logging.getLogger(__name__)

SAMPLES = 500
"""Networks that are drawn to see which shapes a space has; what they miss has the commonest
choice."""
FORMAT = 1
"""Of the file in the cache; a probe that chooses otherwise must raise it."""

Note = Callable[[str], None]
Open = Callable[[], AbstractContextManager[Slots]]
"""Opens a pool of one slot."""


def user_cache() -> Path:
    """Give the user's folder for what can be made anew: compiled libraries and probes."""
    return platformdirs.user_cache_path("replk-search")


@contextmanager
def writable(folder: Path) -> Iterator[Path]:
    """Give a cache folder, or one for the time of this block where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        logger.warning("%s: cannot be written, nothing is cached: %s", folder, error.strerror)
        with tempfile.TemporaryDirectory(prefix="replk-search-") as other:
            yield Path(other)
    else:
        yield folder


def with_backends(plan: Plan, *, cache: Path, open_pool: Open, note: Note) -> Plan:
    """Choose the backends of a new run and freeze them in its plan.

    Args:
        plan: whose settings say `auto`, or force a backend.
        cache: folder for the library and for what was probed.
        open_pool: where the probe runs; nothing else may run meanwhile.
        note: is told what takes time.

    Raises:
        RunError: `native` is forced where it cannot be.
    """
    asked, on_cpu = plan.settings.backend, plan.settings.device == "cpu"
    if asked == "native" and not on_cpu:
        raise RunError(
            f"--backend: must be one that runs on a GPU, got 'native' with --device "
            f"{plan.settings.device}; leave it out"
        )
    library = _compiled(cache, asked, note) if on_cpu and asked in ("auto", "native") else None
    facts: dict[str, Any]
    device = plan.facts["device"]
    if asked == "auto":
        try:
            facts, probed_on = _chosen(plan, library, cache=cache, open_pool=open_pool, note=note)
        except WorkFailed as error:
            # Whatever a probe dies of, trainings would die of too.
            logger.warning("trainings run on torch alone, the probe failed: %s", error)
            facts, library = {"rest": "torch" if on_cpu else "cuda", "other": {}}, None
        else:
            # The driver of a cluster may have no GPU itself.
            device = device if on_cpu or probed_on is None else probed_on
    else:
        facts = {"rest": asked, "other": {}}
    facts["library"] = library.name if library else None
    return replace(
        plan,
        facts={**plan.facts, "device": device, "backends": facts},
        backends=_backends(facts, library),
    )


def found_again(plan: Plan, *, cache: Path, forced: str | None, note: Note) -> Plan:
    """Give the plan of a run that goes on with the backends that it began with.

    Args:
        plan: as it is written; of a run from before there was a choice, it says nothing.
        cache: folder for the library.
        forced: a backend to go on with instead.
        note: is told what takes time.

    Raises:
        RunError: the library that it began with is neither here nor can be built here.
    """
    facts = plan.facts.get("backends") or {}
    if forced is not None:
        library = _compiled(cache, forced, note) if forced == "native" else None
        note(f"kernels   all depthwise sums by {forced} from here on")
        return replace(plan, backends=_backends({"rest": forced, "other": {}}, library))
    if not facts:
        return replace(plan, backends=AUTO)
    library = None if facts["library"] is None else _same_library(plan, cache, note)
    return replace(plan, backends=_backends(facts, library))


def _same_library(plan: Plan, cache: Path, note: Note) -> Path:
    """Find or build the library that a run began with.

    Raises:
        RunError: it cannot be had here.
    """
    name: str = plan.facts["backends"]["library"]
    try:
        library = _built(cache, note)
        missing = f"this machine builds {library.name}"
    except NoCompiler as error:
        library, missing = None, str(error)
    if library is not None and library.name == name:
        return library
    # Another compiler, or none any more: what was built before runs on the processor it is for.
    began, now = plan.facts["device"], device_facts(plan.settings.device)
    alike = all(began.get(key) == now.get(key) for key in ("name", "vector"))
    if alike and is_whole(cache / name):
        return cache / name
    raise RunError(
        f"run.yaml: backends: {name} must be at hand, the trainings of this run were computed with "
        f"it, but {missing}; resume the run where it began, or add --backend native or "
        "--backend torch to go on with other rounding"
    )


def backends_text(facts: Mapping[str, Any]) -> str:
    """Say in words which backends train, from the facts of a plan; empty where it does not say."""
    chosen = facts.get("backends") or {}
    if not chosen:
        return ""
    library = f" ({chosen['library']})" if chosen["library"] else ""
    counts = chosen.get("counts")
    if not counts:
        return f"all depthwise sums of a training by {chosen['rest']}{library}"
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return (
        "the fastest of a probe for each of the "
        f"{sum(counts.values())} depthwise sums that trainings may have: {each}{library}"
    )


def shapes_of(plan: Plan) -> set[SumShape]:
    """Give the shapes of the depthwise sums that trainings of a run will have, most of them."""
    first = first_networks(plan.space, plan.settings.warm_start, plan.facts.get("warm_start", {}))
    networks = [plan.reference, *(architecture for architecture, _ in first)]
    networks += islice(_drawn(Census(plan.space)), SAMPLES)
    sizes = plan.recipe.batch_size
    return {shape for network in networks for shape in sum_shapes(network, sizes)}


def _drawn(census: Census) -> Iterator[Architecture]:
    if census.size <= SAMPLES:
        yield from census.all()
        return
    rng = np.random.default_rng(0)
    while True:
        yield census.sample(rng)


def _compiled(cache: Path, asked: str, note: Note) -> Path | None:
    """Give the native backend's library; None, and a line in the log, where there is none.

    Raises:
        RunError: it was asked for.
    """
    try:
        return _built(cache, note)
    except NoCompiler as error:
        if asked == "native":
            raise RunError(
                f"--backend: native must be compiled, got: {error}; "
                "install a C compiler, or use --backend torch"
            ) from error
        logger.warning("trainings run on torch alone, which is slower: %s", error)
        return None


def _built(cache: Path, note: Note) -> Path:
    before = {*cache.glob("native-*.so")}
    begin = time.monotonic()
    library = compiled(cache, begin=lambda: note("kernels   compiling them for this processor"))
    if library not in before:
        note(f"kernels   compiled {library.name} in {time.monotonic() - begin:.0f} s")
    return library


def _chosen(
    plan: Plan, library: Path | None, *, cache: Path, open_pool: Open, note: Note
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Give what run.yaml keeps of a probe: the commonest choice, and the shapes that differ.

    Returns:
        That, and the facts of the device that was probed; None where all was known.
    """
    shapes = sorted(shapes_of(plan))
    device = first_device(plan.settings.device)
    probed = {shape: probed_shape(shape) for shape in shapes}
    here, there = _key(device_facts(device), library), None
    path, known = _cached(cache, here)
    missing = sorted({shape for shape in probed.values() if shape.key not in known})
    if missing:
        note(f"probing the backends of {len(missing)} depthwise sums")
        with open_pool() as pool:
            job = ProbeJob(
                shapes=tuple(missing), library=str(library) if library else None, device=device
            )
            found, seconds, there = single(
                pool,
                Job(
                    key=JobKey(kind="probe"),
                    function=probe_shapes,
                    payload=job,
                    time_limit_s=TIME_LIMIT_S,
                ),
            )
        known |= found
        note(_probed_line(found, seconds))
        if _key(there, library) == here:  # not another node's
            _keep(path, here, known)
    choices = {shape.key: known[probed[shape].key] for shape in shapes}
    counts = dict(Counter(choices.values()).most_common())
    rest = next(iter(counts), candidates(_kind(device), str(library) if library else None)[0])
    others = {key: name for key, name in choices.items() if name != rest}
    return {"rest": rest, "other": others, "counts": counts}, there


def _probed_line(found: Mapping[str, BackendName], seconds: float) -> str:
    counts = Counter(found.values()).most_common()
    said = ", ".join(f"{name} {count}" for name, count in counts)
    return f"kernels   probed {len(found)} shapes in {seconds:.0f} s: {said}"


def _backends(facts: Mapping[str, Any], library: Path | None) -> Backends:
    rest, chosen = facts["rest"], facts["other"]
    return Backends(rest=rest, chosen=chosen, library=str(library) if library else None)


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _key(facts: Mapping[str, Any], library: Path | None) -> dict[str, Any]:
    """Give what a choice depends on beside the shape, of the facts of a device."""
    kept = ("device", "name", "vector", "torch", "cuda", "cudnn")
    return {
        **{key: facts[key] for key in kept if key in facts},
        "library": library.name if library else None,
        "format": FORMAT,
    }


def _cached(cache: Path, key: Mapping[str, Any]) -> tuple[Path, dict[str, BackendName]]:
    """Give the file of a device, and what is known there by `SumShape.key`."""
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"probe-{name}.json"
    try:
        known = json.loads(path.read_text("utf-8"))["chosen"]
        if any(value not in BACKEND_NAMES for value in known.values()):
            raise ValueError("a backend that does not exist")
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s: cannot be read, probing anew: %s", path, error)
        known = {}
    return path, known


def _keep(path: Path, key: Mapping[str, Any], known: Mapping[str, BackendName]) -> None:
    """Write what is known of a device, for the next run."""
    content = {"device": key, "chosen": dict(sorted(known.items()))}
    try:
        write_atomic(path, json.dumps(content, indent=1))
    except RunError as error:
        logger.warning("the probe is not kept: %s", error)
