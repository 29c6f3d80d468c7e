"""A Ray cluster as an engine: its own on this machine, or one that runs already."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runs.devices import sharing
from runs.engines import preload
from runs.jobs import MEMORY_SHARE, Room
from runs.plan import Plan
from runs.ray_pool import RayPool
from search_space.errors import RunError, shown

logger = logging.getLogger(__name__)

LOCAL = "local"
REFRESH_S = 5.0
"""Seconds between two looks at the nodes."""
CONNECT_S = 10.0
STORE_BYTES = 256 << 20
"""Object store of our own Ray: only weights of a training pass through it, if anything."""
ROOT = str(Path(__file__).resolve().parent.parent)


class RayEngine:
    """Workers of a Ray cluster."""

    name = "ray"

    def __init__(self, address: str, **more: Any) -> None:
        """Connect to a cluster.

        Args:
            address: `local` starts one on this machine; otherwise as `ray.init` takes it.
            more: arguments of `ray.init`.

        Raises:
            RunError: there is none.
        """
        own = dict[str, Any]()
        if address == LOCAL:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            own |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
            # As the children of this machine have it; Ray would put them behind everything else.
            own |= {"_system_config": {"worker_niceness": 0}}
            own |= {"runtime_env": {"env_vars": {"PYTHONPATH": _search_path()}}}
        self._looked = float("-inf")
        self._nodes: list[dict[str, Any]] = []
        self._offered: int | None = None
        self._connected = False
        with _own_signals():
            try:
                _require_port(address)
                ray.init(
                    address=address,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **(own | more),
                )
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                said = " ".join(str(error).split())[:300]
                raise RunError(
                    f"--ray: must reach a Ray cluster, got {shown(address)}: {said}; look with "
                    "'ray status' whether it runs, and set RAY_AUTH_MODE and the token as its "
                    "nodes have them"
                ) from error
        self._connected = True
        _hush()

    def device(self, asked: str) -> str:
        """Give the device of the cluster for what the user asked for.

        Raises:
            RunError: no node has one.
        """
        gpus = sum(node["Resources"].get("GPU", 0) for node in self._alive())
        if asked == "auto":
            return "cuda" if gpus else "cpu"
        if asked not in ("cpu", "cuda"):
            raise RunError(
                f"--device: must be auto, cpu or cuda with --ray, got {shown(asked)}; Ray gives "
                "each training its GPU"
            )
        if asked == "cuda" and not gpus:
            raise RunError(
                "--device: must be a GPU of the cluster, got 'cuda', Ray sees none; use cpu, or "
                "start its nodes with --num-gpus"
            )
        return asked

    def workers(self, asked: int | None, device: str, gpus_per_trial: float = 1.0) -> int:
        """Give as many trainings as the cluster has room for; more where nodes join later.

        Raises:
            RunError: no node has room for one.
        """
        self._require_room(device, gpus_per_trial)
        self._offered = None if asked else self._slots(device, gpus_per_trial)
        return asked or self._slots(device, gpus_per_trial)

    def room(self, workers: int, device: str, gpus_per_trial: float = 1.0) -> Room:
        """Give the memory that a training has on the node that has the least for one.

        Raises:
            RunError: no node has room for one.
        """
        self._require_room(device, gpus_per_trial)
        nodes = [
            (node["Resources"].get("memory", 0), min(workers, slots))
            for node in self._alive()
            if (slots := _slots_of(node, device, gpus_per_trial))
        ]
        host = int(min(memory / max(1, slots) for memory, slots in nodes))
        if device == "cpu":
            return Room(host_bytes=host, alone_bytes=int(min(memory for memory, _ in nodes)))
        total = ray.get(ray.remote(_gpu_bytes).options(num_gpus=gpus_per_trial).remote())
        return Room(
            host_bytes=host,
            gpu_bytes=int(MEMORY_SHARE * gpus_per_trial * total),
            alone_bytes=int(MEMORY_SHARE * total),
        )

    def pool(self, workers: int, plan: Plan, directory: Path, **more: Any) -> RayPool:
        """Open slots on the cluster.

        Their number follows the nodes where it is the one that `workers` gave for None, and more
        than one: jobs that are asked for one by one, and a search of one worker, stay so.

        Raises:
            RunError: no node has room for a training.
        """
        device, part = plan.settings.device, plan.settings.gpus_per_trial
        self._require_room(device, part)
        grows = 1 < workers == self._offered
        return RayPool(
            (lambda: max(1, self._slots(device, part))) if grows else (lambda: workers),
            run=directory,
            preload=preload(plan),
            resources={"CPU": 1} if device == "cpu" else {"CPU": 1, "GPU": part},
            measuring=lambda: self.measuring(device),
            beside=self.beside,
            **more,
        )

    def close(self) -> None:
        """Leave the cluster, and end it where it is our own; a second call does nothing."""
        if self._connected:
            self._connected = False
            with _own_signals():
                ray.shutdown()

    @property
    def beside(self) -> dict[str, Any]:
        """Options that put an actor on the driver's node."""
        return {"num_cpus": 0, "scheduling_strategy": _only_on(self._here())}

    def _here(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def _alive(self, *, fresh: bool = True) -> list[dict[str, Any]]:
        if fresh or time.monotonic() > self._looked + REFRESH_S:
            self._nodes = [node for node in _nodes() if node["Alive"]]
            self._looked = time.monotonic()
        return self._nodes

    def _require_room(self, device: str, part: float) -> None:
        nodes = self._alive()
        if not any(_slots_of(node, device, part) for node in nodes):
            raise RunError(
                f"--ray: must have a node with a {_kind(device)}, got a cluster of {len(nodes)} "
                "nodes with none; wait until 'ray status' shows one, or start one with "
                "'ray start --address=...'"
            )

    def _slots(self, device: str, part: float) -> int:
        return sum(_slots_of(node, device, part) for node in self._alive(fresh=False))

    def measuring(self, device: str) -> dict[str, Any]:
        """Give options that put an actor on the node that measures.

        The driver's node, where it has what the trainings use.
        """
        kind = _kind(device)
        found = [n["NodeID"] for n in self._alive() if n["Resources"].get(kind, 0) >= 1]
        here = self._here()
        if not found:
            raise RuntimeError(f"no node of the cluster has a {kind}")
        options = {
            "num_cpus": 0,
            "scheduling_strategy": _only_on(here if here in found else sorted(found)[0]),
        }
        if device == "cpu":
            return options
        # Without a GPU of its own it would see none; it waits until the others pause.
        return {**options, "runtime_env": {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}}


def _nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found


def _only_on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


def _kind(device: str) -> str:
    """Name what a training needs, as Ray does."""
    return "CPU" if device == "cpu" else "GPU"


def _slots_of(node: dict[str, Any], device: str, part: float) -> int:
    """Give the number of trainings that a node has room for."""
    cpus = int(node["Resources"].get("CPU", 0))
    if device == "cpu":
        return cpus
    return min(cpus, int(node["Resources"].get("GPU", 0)) * sharing(part))


def _gpu_bytes() -> int:
    return int(torch.cuda.get_device_properties(0).total_memory)


def _search_path() -> str:
    """Give a path on which workers of this machine find this program, and what the user added."""
    return os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))


def _require_port(address: str) -> None:
    """Try HOST:PORT before Ray does, which needs minutes to see that nobody is there.

    Raises:
        OSError: nobody is there.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S):
            pass


def _hush() -> None:
    """Keep Ray off the screen, which the live table has: its logs tell it all."""
    for name in ("ray", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It complains of trials that a Ctrl-C cut off; what else it has to say comes as an exception.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # What daemons of the cluster say is printed whatever `log_to_driver` is, and not by a logger.
    vars(import_module("ray._private.worker"))["print_to_stdstream"] = _log


def _log(data: dict[str, Any], **_: Any) -> None:
    logger.info("%s", " ".join(map(str, data["lines"])))


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and SIGTERM, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
