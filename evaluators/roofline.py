"""Where the time of a network goes, layer by layer, against what the device can do at most.

Every operator of a forward pass is timed where it stands: torch hands each to us before it runs, so
norms, activations, gates and additions are seen like convolutions, each with the data and the
caches that the operators before it left. A layer is all operators that one module calls itself, its
children's left out; a product with weights is of the module whose weights they are, whoever calls
it. So nothing is counted twice and nothing is lost.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from evaluators.device import quiet
from evaluators.machine import Clock, Machine, clock_of, measure_machine
from search_space.architecture import LARGE_KERNEL

LARGE, SMALL, POINTWISE, DENSE, OTHER = KINDS = (
    "large depthwise",
    "small depthwise",
    "pointwise",
    "dense",
    "other",
)
"""Kinds of layers: depthwise from 7 pixels on and below, 1x1 and linear, other convolutions, and
layers without multiply-adds."""

WARMUPS = 3
MIN_ROUNDS, MAX_ROUNDS = 7, 201
BUDGET_S = 3.0
"""Seconds of rounds; each times the whole network once, then every operator in turn."""

RUNNING = 0.97
"""Share of a round in which the thread must have run, or something else took its core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """What one module does itself, for one batch."""

    name: str
    """As in the merged network's `named_modules`."""
    kind: str
    """One of `KINDS`."""
    what: str
    """Kernel and widths, or the operators in the order they run."""
    operators: int
    """Calls of operators that are not mere views."""
    output: tuple[int, ...]
    """Shape of what the last of them makes."""
    macs: int
    """Multiply-adds as `evaluators.cost` counts them."""
    effective_macs: int
    """Those of them whose tap falls on the map, not on its padding."""
    bytes: int
    """Bytes of what each operator reads and writes, weights included, once."""
    ms: float
    """Median over the rounds."""

    @property
    def intensity(self) -> float:
        """Give effective operations, two a multiply-add, for each byte."""
        return 2 * self.effective_macs / self.bytes if self.bytes else 0.0

    @property
    def gflops(self) -> float:
        """Give the effective operations, two a multiply-add, in a nanosecond."""
        return 2 * self.effective_macs / self.ms / 1e6

    @property
    def gbs(self) -> float:
        """Give the bytes in a nanosecond."""
        return self.bytes / self.ms / 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """Where the time of one network goes."""

    machine: Machine
    layers: list[Layer]
    """In the order of their first operator."""
    whole_ms: float
    """Median of the whole network in the same rounds, unobserved."""
    rounds: int
    """Rounds that the medians are of."""
    disturbed: int
    """Those of them in which something else took the core; 0 where enough were without."""
    left_out: int
    """Rounds with something else on the core that could be spared."""

    @property
    def layers_ms(self) -> float:
        """Give the sum over the layers."""
        return math.fsum(layer.ms for layer in self.layers)


def measure_roofline(
    network: nn.Module,
    *,
    size: tuple[int, int],
    channels: int,
    device: torch.device | str = "cpu",
    batch_size: int = 1,
    budget_s: float = BUDGET_S,
) -> Roofline:
    """Measure the device, then every layer of a network on random images.

    float32, channels last, inference mode, one thread on a CPU. Give a merged network; it is moved
    to the device and put in eval mode. Nothing else should run meanwhile.

    Args:
        network: what to time.
        size: height and width of an image in pixels.
        channels: of an image.
        device: where to time.
        batch_size: images of a forward pass.
        budget_s: seconds to spend on the layers, unless 7 rounds take longer.
    """
    device = torch.device(device)
    images = torch.randn((batch_size, channels, *size), generator=torch.Generator().manual_seed(0))
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    network.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    machine = measure_machine(device)
    clock = clock_of(device)
    with quiet(1), torch.inference_mode():
        calls = observed(network, images)
        for _ in range(WARMUPS):
            network(images)
        rounds: list[_Round] = []
        began = time.perf_counter()
        while len(rounds) < MIN_ROUNDS or (
            len(rounds) < MAX_ROUNDS and time.perf_counter() - began < budget_s
        ):
            rounds.append(_one_round(network, images, clock))
    undisturbed = [one for one in rounds if one.undisturbed or device.type == "cuda"]
    enough = len(undisturbed) >= MIN_ROUNDS
    used = undisturbed if enough else rounds
    return Roofline(
        machine=machine,
        layers=_layers(network, calls, [one.seconds for one in used]),
        whole_ms=1e3 * statistics.median(one.whole for one in used),
        rounds=len(used),
        disturbed=0 if enough else len(rounds) - len(undisturbed),
        left_out=len(rounds) - len(used),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """One call of an operator."""

    module: str
    """Name of the module that called it, or whose weights it multiplies with."""
    kind: str
    what: str
    view: bool
    """Whether it moves nothing."""
    output: tuple[int, ...]
    macs: int
    effective_macs: int
    bytes: int


def observed(network: nn.Module, images: Tensor) -> list[Operator]:
    """List the operators of one forward pass of a network, and count each for the whole batch."""
    found: list[Operator] = []
    owners = {
        parameter.untyped_storage().data_ptr(): name
        for name, module in network.named_modules()
        for parameter in module.parameters(recurse=False)
    }
    with _innermost(network) as inside:

        def counted(func: Any, *args: Any, **kwargs: Any) -> Any:
            made = func(*args, **kwargs)
            found.append(_count(inside[-1], owners, func, args, made))
            return made

        with _EveryOperator(counted):
            network(images)
    return found


def taps_on_map(
    side: int, made: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """Count the taps on a line of pixels, over the `made` positions of a kernel on it."""
    taps = range(0, kernel * dilation, dilation)
    return sum(0 <= place * stride - padding + tap < side for place in range(made) for tap in taps)


class _EveryOperator(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets a function run every operator of a `with` block, given operator and arguments."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = run

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.run(func, *args, **(kwargs or {}))


class _Round(NamedTuple):
    """One pass unobserved, one observed."""

    whole: float
    """Seconds of the first."""
    seconds: list[float]
    """Of every operator in the second."""
    undisturbed: bool
    """Whether the thread ran all the time."""


def _one_round(network: nn.Module, images: Tensor, clock: Clock) -> _Round:
    began, ran = time.perf_counter(), time.thread_time()
    whole = clock(partial(network, images))
    seconds: list[float] = []

    def timed(func: Any, *args: Any, **kwargs: Any) -> Any:
        made = None

        def call() -> None:
            nonlocal made
            made = func(*args, **kwargs)

        seconds.append(clock(call))
        return made

    with _EveryOperator(timed):
        network(images)
    ran, passed = time.thread_time() - ran, time.perf_counter() - began
    return _Round(whole, seconds, undisturbed=ran >= RUNNING * passed)


@contextmanager
def _innermost(network: nn.Module) -> Iterator[list[str]]:
    """Keep the names of the modules that run, the innermost last, for a `with` block."""
    inside: list[str] = []
    hooks = []
    for name, module in network.named_modules():
        enter = partial(_enter, inside, name)
        hooks += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(partial(_leave, inside)),
        ]
    try:
        yield inside
    finally:
        for hook in hooks:
            hook.remove()


def _enter(inside: list[str], name: str, _module: nn.Module, _inputs: Any) -> None:
    inside.append(name)


def _leave(inside: list[str], _module: nn.Module, _inputs: Any, _output: Any) -> None:
    inside.pop()


def _count(
    caller: str, owners: Mapping[int, str], func: Any, args: tuple[Any, ...], made: Any
) -> Operator:
    """Count one call of an operator."""
    name = func.overloadpacket.__name__
    read, written = list(_tensors(args)), list(_tensors((made,)))
    places = {tensor.untyped_storage().data_ptr() for tensor in read}
    view = not func._schema.is_mutable and all(
        tensor.untyped_storage().data_ptr() in places for tensor in written
    )
    kind, what, macs, effective = OTHER, name, 0, 0
    if name in ("conv2d", "convolution"):
        kind, what, macs, effective = _convolution(made, *args)
    elif name in _INNER:
        inner = args[_INNER[name]].shape[-1]
        macs = effective = made.numel() * inner
        kind, what = POINTWISE, f"{name}, {inner} to {made.shape[-1]}"
    return Operator(
        module=next((owners[place] for place in places if macs and place in owners), caller),
        kind=kind,
        what=what,
        view=view,
        output=tuple(written[-1].shape) if written else (),
        macs=macs,
        effective_macs=effective,
        bytes=0 if view else sum(_size(tensor) for tensor in (*read, *written)),
    )


_INNER = {"linear": 0, "matmul": 0, "mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Matrix products: the argument whose last dimension is summed over."""


def _convolution(
    made: Tensor,
    x_BCHW: Tensor,
    weight: Tensor,
    _bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    *_more: Any,
) -> tuple[str, str, int, int]:
    """Give kind, words, multiply-adds and those on the map of a convolution.

    The arguments are torch's, which leaves out those at their defaults.
    """
    outputs, each, *sides = weight.shape
    line = [
        taps_on_map(
            x_BCHW.shape[2 + axis],
            made.shape[2 + axis],
            sides[axis],
            stride=stride[axis],
            padding=padding[axis],
            dilation=dilation[axis],
        )
        for axis in range(2)
    ]
    depthwise = each == 1 and x_BCHW.shape[1] == outputs > 1
    shape = f"{sides[0]}x{sides[1]}" + (f" / {stride[0]}" if max(stride) > 1 else "")
    if depthwise:
        kind = LARGE if max(sides) >= LARGE_KERNEL else SMALL
        what = f"depthwise {shape}, {outputs}"
    else:
        kind = POINTWISE if max(sides) == 1 else DENSE
        what = f"conv {shape}, {x_BCHW.shape[1]} to {outputs}"
    return (
        kind,
        what,
        made.numel() * each * math.prod(sides),
        made.shape[0] * outputs * each * math.prod(line),
    )


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _size(tensor: Tensor) -> int:
    """Give the bytes behind a tensor: of a broadcast one those that exist."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _layers(
    network: nn.Module, calls: Sequence[Operator], rounds: Sequence[Sequence[float]]
) -> list[Layer]:
    """Join the operators of every module, each round for itself, and take the medians."""
    modules = dict(network.named_modules())
    places: dict[str, list[int]] = {}
    # Views last: a module stands where it first does something.
    for place, call in sorted(enumerate(calls), key=lambda placed: placed[1].view):
        places.setdefault(call.module, []).append(place)
    layers = []
    for name, own in places.items():
        mine = [calls[place] for place in own]
        working = [call for call in mine if not call.view] or mine
        main = max(working, key=lambda call: call.macs)
        words = ", ".join(dict.fromkeys(call.what for call in working))
        if len(working) > 1:
            words = f"{type(modules[name]).__name__}: {words}"
        layers.append(
            Layer(
                name=name,
                kind=main.kind,
                what=main.what if main.macs else words,
                operators=sum(not call.view for call in mine),
                output=working[-1].output,
                macs=sum(call.macs for call in mine),
                effective_macs=sum(call.effective_macs for call in mine),
                bytes=sum(call.bytes for call in mine),
                ms=1e3 * statistics.median(sum(one[place] for place in own) for one in rounds),
            )
        )
    return layers
