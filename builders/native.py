"""The compiled backend: builds its C files once for this processor, and calls them.

C rather than numba: forward through a block of 64 channels, 64 images of 16 x 16 and K = 13 takes
5.1 ms here, and 22 ms in numba, which convolves only. C is compiled in 6 s once and then loads in
0.04 s; numba compiles in 2.7 s and takes 0.7 s in every new process (1 thread of an AVX-512 EPYC,
tests/benchmarks/test_numba.py).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from builders.backends import SumSpec

SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("normed_sum.c", "response.c", "norms.c", "pointwise.c")
)
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-shared", "-fPIC", "-std=gnu11")
THREADED = ("-fopenmp", "")
"""Tried in turn: a compiler without OpenMP makes a library of one thread."""
MOST_BRANCHES = 16
COMPILE_S = 300.0
"""A compiler that takes longer hangs; on a busy machine one took a minute."""


class NoCompiler(Exception):
    """The native backend cannot be built here; the message says why."""


def compiled(
    cache_folder: Path, *, flags: Sequence[str] = FLAGS, begin: Callable[[], None] = lambda: None
) -> Path:
    """Build the native backend, or find it built, and give the library's file.

    Its name is a hash of source, flags, compiler and processor, so that a folder can be shared
    between machines. Takes about 11 seconds once.

    Args:
        cache_folder: where libraries are kept; made if it is not there.
        flags: of the compiler.
        begin: called before it compiles.

    Raises:
        NoCompiler: there is none, or it fails, or the folder cannot be written.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NoCompiler(f"no C compiler found, looked for {', '.join(COMPILERS)}")
    try:
        version = _run([compiler, "--version"])
    except (OSError, subprocess.SubprocessError) as error:
        raise NoCompiler(f"{compiler} does not run: {_said(error)}") from error
    parts = (*(source.read_text("utf-8") for source in SOURCES), *flags, version, processor())
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    library = cache_folder / f"native-{name}.so"
    if is_whole(library):
        return library
    begin()
    try:
        cache_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder) as folder:
            draft = Path(folder) / library.name
            _compile(compiler, flags, draft)
            seal(draft).write_text(_digest(draft), "utf-8")
            # Whole or not at all, also where two processes build it at once.
            for part in (seal(draft), draft):
                os.replace(part, cache_folder / part.name)  # noqa: PTH105
    except subprocess.SubprocessError as error:
        raise NoCompiler(f"{compiler} failed: {_said(error)}") from error
    except OSError as error:
        raise NoCompiler(f"cannot write in {cache_folder}: {_said(error)}") from error
    return library


def is_whole(library: Path) -> bool:
    """Say whether a library is there as it was built: loading half of one kills the process."""
    try:
        return seal(library).read_text("utf-8") == _digest(library)
    except OSError:
        return False


def seal(library: Path) -> Path:
    """Give the file that holds a library's digest."""
    return library.with_suffix(".sha256")


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _compile(compiler: str, flags: Sequence[str], library: Path) -> None:
    for threaded in THREADED:
        command = [
            compiler,
            *flags,
            *filter(None, [threaded]),
            "-o",
            str(library),
            *map(str, SOURCES),
        ]
        try:
            _run([*command, "-lm"])
        except subprocess.CalledProcessError:
            if not threaded:
                raise
        else:
            return


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=COMPILE_S)
    return done.stdout


def _said(error: Exception) -> str:
    """Say in a line what a compiler complained about."""
    text = (error.stderr if isinstance(error, subprocess.CalledProcessError) else "") or str(error)
    lines = [line for line in text.splitlines() if "error" in line] or text.splitlines()
    return lines[0].strip() if lines else type(error).__name__


@cache
def processor() -> str:
    """Give what `-march=native` looks at, as far as it is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


class _Kernel(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("rows", "columns", "dilation")]


_NUMBERS = (
    "images",
    "channels",
    "height",
    "width",
    "branches",
    "normed",
    "last",
    "threads",
    "weights_too",
)


class _Problem(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in _NUMBERS),
        ("kernels", _Kernel * MOST_BRANCHES),
        ("eps", ctypes.c_float * (MOST_BRANCHES + 1)),
    ]


class Native:
    """The compiled backend; see `builders.backends.Backend`. float32 on a CPU."""

    def __init__(self, library: str) -> None:
        """Load the library.

        Raises:
            OSError: it cannot be loaded.
        """
        self._library = ctypes.CDLL(library)

    def forward(
        self,
        x_BCHW: Tensor,
        weights: Sequence[Tensor],
        scale_RC: Tensor,
        offset_RC: Tensor,
        spec: SumSpec,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give y, and mean and biased variance of what every batch norm normalises."""
        y_BCHW = torch.empty_like(x_BCHW)
        mean_RC, var_RC = torch.empty_like(scale_RC), torch.empty_like(scale_RC)
        weights = [weight.contiguous() for weight in weights]
        self._call(
            "replk_forward",
            _problem(x_BCHW, spec),
            x_BCHW,
            y_BCHW,
            weights,
            scale_RC,
            offset_RC,
            mean_RC,
            var_RC,
        )
        return y_BCHW, mean_RC, var_RC

    def backward(
        self,
        grad_BCHW: Tensor,
        x_BCHW: Tensor,
        weights: Sequence[Tensor],
        scale_RC: Tensor,
        offset_RC: Tensor,
        mean_RC: Tensor,
        var_RC: Tensor,
        spec: SumSpec,
        *,
        weights_too: bool,
    ) -> tuple[Tensor, Sequence[Tensor | None], Tensor, Tensor]:
        """Give the gradients of x, of every weight (None where not wanted), scales and offsets."""
        grad_x = torch.empty_like(x_BCHW)
        weights = [weight.contiguous() for weight in weights]
        grad_weights = [torch.zeros_like(weight) for weight in weights]
        grad_scale, grad_offset = torch.empty_like(scale_RC), torch.empty_like(offset_RC)
        self._call(
            "replk_backward",
            _problem(x_BCHW, spec, weights_too=weights_too),
            x_BCHW,
            grad_BCHW,
            grad_x,
            weights,
            scale_RC,
            offset_RC,
            mean_RC,
            var_RC,
            grad_weights,
            grad_scale,
            grad_offset,
        )
        wanted = grad_weights if weights_too else [None] * len(weights)
        return grad_x, wanted, grad_scale, grad_offset

    def respond(self, h_BCHW: Tensor, gamma_C: Tensor, beta_C: Tensor) -> tuple[Tensor, Tensor]:
        """Give GELU and global response normalisation of a map, and the norms of GELU, (B, C)."""
        y_BCHW, length_BC = torch.empty_like(h_BCHW), h_BCHW.new_empty(h_BCHW.shape[:2])
        self._map_call("replk_respond", h_BCHW, h_BCHW, gamma_C, beta_C, y_BCHW, length_BC)
        return y_BCHW, length_BC

    def respond_back(
        self, h_BCHW: Tensor, gamma_C: Tensor, length_BC: Tensor, grad_BCHW: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give the gradients of `respond` to its map, to gamma and to beta."""
        grad_h, with_BC = torch.empty_like(h_BCHW), torch.empty_like(length_BC)
        plain_BC = torch.empty_like(length_BC)
        operands = (h_BCHW, gamma_C, length_BC, grad_BCHW, grad_h, with_BC, plain_BC)
        self._map_call("replk_respond_back", h_BCHW, *operands)
        return grad_h, with_BC.sum(0), plain_BC.sum(0)

    def pointwise(self, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Give the 1x1 convolution of a channels_last map by a dense weight; one thread."""
        images, _, rows, columns = x_BCHW.shape
        y_BCHW = x_BCHW.new_empty(images, rows, columns, len(weight)).permute(0, 3, 1, 2)
        self._point_call("replk_pointwise", x_BCHW, weight, (x_BCHW, weight, bias, y_BCHW))
        return y_BCHW

    def pointwise_back(
        self, x_BCHW: Tensor, weight: Tensor, grad_BCHW: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Give the gradients of `pointwise` to map, weight and bias; None where not wanted."""
        map_too, weight_too, bias_too = wanted
        grad_x = torch.empty_like(x_BCHW) if map_too else None
        grad_weight = torch.empty_like(weight) if weight_too else None
        grad_bias = weight.new_empty(len(weight)) if bias_too else None
        operands = (x_BCHW, weight, grad_BCHW, grad_x, grad_weight, grad_bias)
        self._point_call("replk_pointwise_back", x_BCHW, weight, operands)
        return grad_x, grad_weight, grad_bias

    def _point_call(
        self, name: str, map_BCHW: Tensor, weight: Tensor, operands: Sequence[Tensor | None]
    ) -> None:
        images, inputs, rows, columns = map_BCHW.shape
        addresses = [None if one is None else ctypes.c_void_p(one.data_ptr()) for one in operands]
        pixels = ctypes.c_long(images * rows * columns)
        if getattr(self._library, name)(pixels, inputs, len(weight), *addresses):
            raise MemoryError("out of memory in the native backend")

    def layer_norm(self, x_BCHW: Tensor, gamma_C: Tensor, beta_C: Tensor, eps: float) -> Tensor:
        """Give the layer norm over the channels of every pixel of a channels_last map."""
        y_BCHW = torch.empty_like(x_BCHW)
        self._norm_call("replk_layer_norm", eps, x_BCHW, gamma_C, beta_C, y_BCHW)
        return y_BCHW

    def layer_norm_back(
        self, x_BCHW: Tensor, gamma_C: Tensor, grad_BCHW: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give the gradients of `layer_norm` to its map, to gamma and to beta."""
        grads = torch.empty_like(x_BCHW), torch.empty_like(gamma_C), torch.empty_like(gamma_C)
        self._norm_call("replk_layer_norm_back", eps, x_BCHW, gamma_C, grad_BCHW, *grads)
        return grads

    def batch_norm(
        self, x_BCHW: Tensor, gamma_C: Tensor, beta_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give the batch norm of a channels_last map, and its means and biased variances."""
        found = torch.empty_like(x_BCHW), torch.empty_like(gamma_C), torch.empty_like(gamma_C)
        self._norm_call("replk_batch_norm", eps, x_BCHW, gamma_C, beta_C, *found)
        return found

    def batch_norm_back(
        self,
        x_BCHW: Tensor,
        gamma_C: Tensor,
        mean_C: Tensor,
        var_C: Tensor,
        grad_BCHW: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give the gradients of `batch_norm` to its map, to gamma and to beta."""
        grads = torch.empty_like(x_BCHW), torch.empty_like(gamma_C), torch.empty_like(gamma_C)
        operands = (x_BCHW, gamma_C, mean_C, var_C, grad_BCHW, *grads)
        self._norm_call("replk_batch_norm_back", eps, *operands)
        return grads

    def _norm_call(self, name: str, eps: float, map_BCHW: Tensor, *operands: Tensor) -> None:
        images, width, rows, columns = map_BCHW.shape
        addresses = [ctypes.c_void_p(one.data_ptr()) for one in (map_BCHW, *operands)]
        pixels = ctypes.c_long(images * rows * columns)
        if getattr(self._library, name)(pixels, width, ctypes.c_float(eps), *addresses):
            raise MemoryError("out of memory in the native backend")

    def _map_call(self, name: str, map_BCHW: Tensor, *operands: Tensor) -> None:
        images, width, rows, columns = map_BCHW.shape
        addresses = [ctypes.c_void_p(operand.data_ptr()) for operand in operands]
        pixels, threads = ctypes.c_long(rows * columns), torch.get_num_threads()
        if getattr(self._library, name)(images, pixels, width, threads, *addresses):
            raise MemoryError("out of memory in the native backend")

    def _call(self, name: str, problem: _Problem, *arguments: Tensor | Sequence[Tensor]) -> None:
        addresses = [
            ctypes.c_void_p(one.data_ptr())
            if isinstance(one, Tensor)
            else (ctypes.c_void_p * len(one))(*(tensor.data_ptr() for tensor in one))
            for one in arguments
        ]
        if getattr(self._library, name)(ctypes.byref(problem), *addresses):
            raise MemoryError("out of memory in the native backend")


@cache
def loaded(library: str) -> Native:
    """Give the backend of a library's file; loads it once a process.

    Raises:
        OSError: it cannot be loaded.
    """
    return Native(library)


def _problem(x_BCHW: Tensor, spec: SumSpec, *, weights_too: bool = True) -> _Problem:
    images, width, rows, columns = x_BCHW.shape
    problem = _Problem(
        images,
        width,
        rows,
        columns,
        len(spec.kernels),
        spec.normed,
        spec.last,
        torch.get_num_threads(),
        weights_too,
    )
    for place, kernel in enumerate(spec.kernels):
        problem.kernels[place] = _Kernel(*kernel)
    # The norm of the sum comes behind those of the branches, also where these have none.
    for place, eps in enumerate(spec.eps, start=0 if spec.normed else len(spec.kernels)):
        problem.eps[place] = eps
    return problem
