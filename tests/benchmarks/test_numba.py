"""Why the compiled backend is a C file: the same convolution in numba, beside it.

numba only convolves, from and to the layout in which it is fastest; the C file also transposes
there and back, normalises and sums.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from builders.backends import Backends, SumShape
from tests.benchmarks.timing import medians
from tests.normed_sums import block_shape, computed_by, effective_macs, made

numba_convolution = pytest.importorskip("tests.benchmarks.numba_convolution")

ROOT = Path(__file__).parents[2]
LANES = 32
SIZES = ((16, 64, 64, 13), (7, 48, 32, 7))

START = "import time, sys; wall, cpu = time.perf_counter(), time.process_time()\n"
STOP = "print(time.perf_counter() - wall, time.process_time() - cpu)"
IN_NUMBA = (
    "import numpy as np; from tests.benchmarks.numba_convolution import convolve\n"
    "x = np.zeros((1, 1, 7, 7, 32), np.float32)\n"
    "convolve(x, np.zeros_like(x), np.zeros((1, 7, 7), np.float32), 1)\n"
)
IN_C = (
    "from pathlib import Path; from builders.native import compiled, loaded\n"
    "loaded(str(compiled(Path(sys.argv[1]))))\n"
)


def test_a_fresh_process(tmp_path: Path) -> None:
    print("\nseconds until a fresh process that has torch can convolve: wall, of the processor")
    for name, code in (("numba", IN_NUMBA), ("C", IN_C)):
        for what in ("compiles", "finds it in the cache"):
            done = subprocess.run(
                [sys.executable, "-c", "import torch\n" + START + code + STOP, str(tmp_path)],
                cwd=ROOT,
                env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                check=True,
            )
            wall, cpu = map(float, done.stdout.split())
            print(f"  {name:5} {what:22} {wall:6.2f} {cpu:6.2f}")


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_forward_pass(sizes: tuple[int, int, int, int], library: str) -> None:
    shape = block_shape(*sizes)
    plain, x, _ = made(shape)
    tiles = _tiled(x)
    sums = np.empty_like(tiles)
    weights = [conv.weight.detach()[:, 0].numpy() for conv in plain.convs]  # type: ignore[operator]

    def in_numba() -> None:
        for weight, (_, _, dilation) in zip(weights, shape.kernels, strict=True):
            numba_convolution.convolve(tiles, sums, weight, dilation)

    in_c = computed_by(plain, Backends(rest="native", library=library))
    for weight, (side, _, dilation) in zip(weights, shape.kernels, strict=True):
        numba_convolution.convolve(tiles, sums, weight, dilation)
        expected = F.conv2d(
            x,
            torch.from_numpy(weight)[:, None],
            padding=dilation * (side // 2),
            dilation=dilation,
            groups=shape.width,
        )
        assert np.allclose(sums, _tiled(expected), atol=1e-4)
    with torch.no_grad():
        times = medians({"numba": in_numba, "C": lambda: in_c(x)})
    _report(shape, times)


def _report(shape: SumShape, times: dict[str, float]) -> None:
    rates = {name: 2 * effective_macs(shape) / s / 1e9 for name, s in times.items()}
    said = ", ".join(
        f"{name} {1e3 * s:.2f} ms ({rates[name]:.0f} GF/s)" for name, s in times.items()
    )
    print(f"\n{shape.key}: forward {said}")


def _tiled(x_BCHW: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Give maps (B, C, H, W) as [C][tiles][H][W][LANES]."""
    images, width, rows, columns = x_BCHW.shape
    tiled = x_BCHW.reshape(images // LANES, LANES, width, rows, columns).permute(2, 0, 3, 4, 1)
    return tiled.contiguous().numpy()
