"""The compiled backend: exact for every shape, on every width of vector, and safe to build."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from builders.backends import Backends, SumShape
from builders.native import COMPILERS, FLAGS, MOST_BRANCHES, Native, NoCompiler, compiled
from tests.normed_sums import ODD_SHAPES, block_shape, computed_by, errors, made, outcome, shapes

ROOT = Path(__file__).parents[1]
NEAR = 1e-5
QUICK = ("-O0", "-march=native", "-shared", "-fPIC", "-std=gnu11")
"""Flags for tests of the building itself: it takes two seconds instead of six."""
NARROW = (*FLAGS, "-mno-avx512f")
"""Vectors of 8 numbers where the processor has some of 16."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="module", params=[FLAGS, NARROW], ids=["widest", "narrow"])
def native(cache: Path, request: pytest.FixtureRequest) -> Backends:
    if request.param is NARROW and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has vectors of one width")
    return Backends(rest="native", library=str(_built(cache, request.param)))


@pytest.fixture(scope="module")
def widest(cache: Path) -> Backends:
    return Backends(rest="native", library=str(_built(cache, FLAGS)))


def _built(cache: Path, flags: tuple[str, ...]) -> Path:
    try:
        return compiled(cache, flags=flags)
    except NoCompiler as error:
        pytest.skip(str(error))


# ---- exactness


@given(shape=shapes())
@settings(max_examples=60)
def test_every_output_and_gradient_is_that_of_float64(native: Backends, shape: SumShape) -> None:
    found = errors(shape, native)

    assert max(found.values()) < NEAR, {name: error for name, error in found.items() if error}


@pytest.mark.parametrize("images", [1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 49, 100, 128])
def test_no_number_of_images_leaves_a_vector_half_done(native: Backends, images: int) -> None:
    kernels = ((5, 5, 1), (3, 3, 2))
    for normed, last in ((True, True), (False, False)):
        shape = SumShape(images, 3, 5, 4, kernels, normed, last)
        assert max(errors(shape, native).values()) < NEAR


@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 15, 16, 17, 31, 33])
def test_no_number_of_channels_leaves_a_group_half_done(native: Backends, width: int) -> None:
    shape = SumShape(9, width, 4, 5, ((7, 3, 1), (3, 3, 3)), normed=True, last=True)

    assert max(errors(shape, native).values()) < NEAR


@pytest.mark.parametrize("side", range(1, 20))
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_no_side_leaves_a_register_block_half_done(
    native: Backends, side: int, dilation: int
) -> None:
    kernels = tuple((k, k, dilation) for k in (1, 3, 9, 17))
    for rows, columns in ((side, 3), (3, side)):
        shape = SumShape(7, 2, rows, columns, kernels, normed=True, last=False)
        assert max(errors(shape, native).values()) < NEAR


@pytest.mark.parametrize(
    "shape",
    [
        block_shape(16, 8, 16, 31),  # the most branches that are published
        block_shape(7, 16, 33, 13),
        block_shape(4, 24, 100, 31),  # kernel far beyond 2H - 1
        SumShape(3, 5, 14, 14, ((51, 5, 1), (5, 51, 1), (5, 5, 1)), normed=True, last=False),
        SumShape(2, 4, 56, 56, ((31, 31, 1), (5, 5, 1)), normed=True, last=False),
        SumShape(2, 3, 9, 9, ((3, 3, 1),) * MOST_BRANCHES, normed=True, last=True),
    ],
    ids=lambda shape: shape.key[:40],
)
def test_blocks_of_the_families_are_exact(native: Backends, shape: SumShape) -> None:
    assert max(errors(shape, native).values()) < NEAR


def test_it_is_the_compiled_backend_that_was_tested(widest: Backends) -> None:
    plain, x, _ = made(block_shape(5, 4, 9, 7))

    y = computed_by(plain, widest)(x.requires_grad_())

    assert isinstance(y.grad_fn.backend, Native)  # type: ignore[union-attr]


def test_more_branches_than_it_has_room_for_are_torchs(widest: Backends) -> None:
    kernels = ((3, 3, 1),) * (MOST_BRANCHES + 1)

    found = errors(SumShape(2, 3, 9, 9, kernels, normed=True, last=True), widest)

    assert max(found.values()) < NEAR


def test_no_image_at_all_is_no_access(native: Backends) -> None:
    plain, x, grad = made(SumShape(0, 3, 9, 9, ((3, 3, 1),), normed=False, last=False))

    found = outcome(plain, computed_by(plain, native), x, grad)

    assert found["y"].shape == x.shape
    assert not found["convs.0.weight"].any()


def test_sixty_steps_give_the_loss_of_plain_modules(widest: Backends) -> None:
    losses = []
    for backends in (widest, Backends(rest="reference")):
        plain, x, target = made(block_shape(9, 12, 16, 13))
        compute = computed_by(plain, backends)
        optimiser = torch.optim.AdamW(plain.parameters(), lr=1e-2, fused=True)
        for _ in range(60):
            loss = (compute(x) - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# ---- one result


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("width", [3, 40])
def test_two_threads_give_what_one_gives_bit_for_bit(native: Backends, width: int) -> None:
    shape = block_shape(6, width, 21, 9)
    found = []
    for number in (1, 2, 3):
        with _threads(number):
            plain, x, grad = made(shape)
            found.append(outcome(plain, computed_by(plain, native), x, grad))

    assert all(torch.equal(found[0][name], more[name]) for more in found for name in found[0])


def test_a_layout_of_the_map_or_the_gradient_changes_nothing(widest: Backends) -> None:
    shape = block_shape(6, 5, 10, 7)
    plain, x, grad = made(shape)
    expected = outcome(plain, computed_by(plain, widest), x, grad)
    plain, x, grad = made(shape)
    strided = torch.stack([grad, grad], dim=-1)[..., 0]

    actual = outcome(plain, computed_by(plain, widest), x.contiguous(), strided)

    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_frozen_kernels_get_no_gradient_and_pass_the_same_on(widest: Backends) -> None:
    shape = block_shape(6, 5, 10, 7)
    plain, x, grad = made(shape)
    expected = outcome(plain, computed_by(plain, widest), x, grad)
    plain, x, grad = made(shape)
    plain.convs.requires_grad_(requires_grad=False)

    actual = outcome(plain, computed_by(plain, widest), x, grad)

    assert expected.keys() - actual.keys() == {
        f"convs.{number}.weight" for number in range(len(shape.kernels))
    }
    assert all(torch.equal(expected[name], actual[name]) for name in actual)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite_spoils_its_own_channel_only(
    native: Backends, bad: float
) -> None:
    shape = block_shape(6, 5, 10, 7)
    plain, x, grad = made(shape)
    expected = outcome(plain, computed_by(plain, native), x, grad)
    plain, x, grad = made(shape)
    x[3, 2, 1, 1] = bad

    actual = outcome(plain, computed_by(plain, native), x, grad)

    others = torch.tensor([0, 1, 3, 4])
    assert not actual["y"][:, 2].isfinite().all()
    assert torch.equal(actual["y"][:, others], expected["y"][:, others])
    assert torch.equal(actual["x"][:, others], expected["x"][:, others])


def test_a_weight_that_is_not_finite_spoils_its_own_channel_only(native: Backends) -> None:
    plain, x, grad = made(block_shape(6, 5, 10, 7))
    with torch.no_grad():
        plain.convs[1].weight[2, 0, 1, 1] = float("inf")  # type: ignore[index]

    found = outcome(plain, computed_by(plain, native), x, grad)

    finite = [bool(found["y"][:, channel].isfinite().all()) for channel in range(5)]
    assert finite == [True, True, False, True, True]


def test_autograd_keeps_one_map(widest: Backends) -> None:
    shape = block_shape(8, 16, 32, 13)
    plain, x, _ = made(shape)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        computed_by(plain, widest)(x.requires_grad_())

    assert sum(numel >= x.numel() for numel in kept.values()) == 1


# ---- building


def test_a_library_is_built_once(tmp_path: Path) -> None:
    first = _built(tmp_path / "new" / "folder", QUICK)
    before = {path: path.stat() for path in first.parent.iterdir()}

    again = compiled(first.parent, flags=QUICK)

    assert again == first
    assert {path: path.stat() for path in first.parent.iterdir()} == before


def test_other_flags_make_another_library(cache: Path, tmp_path: Path) -> None:
    quick = _built(tmp_path, QUICK)

    assert quick.name != _built(cache, FLAGS).name


def test_a_damaged_library_is_built_anew(tmp_path: Path) -> None:
    library = _built(tmp_path, QUICK)
    whole = library.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        library.write_bytes(damaged)

        # Loading half a library would end the process by a signal.
        assert compiled(tmp_path, flags=QUICK).read_bytes() == whole


@pytest.mark.slow
def test_two_processes_can_build_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from builders.native import compiled, loaded\n"
        "library = compiled(Path(sys.argv[1])); loaded(str(library)); print(library)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]

    def run(_: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(run, range(2)))

    assert [one.returncode for one in done] == [0, 0], [one.stderr for one in done]
    assert done[0].stdout == done[1].stdout
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".sha256", ".so"]


def _only_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder.mkdir()
    for name in COMPILERS:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_without_a_compiler_it_says_what_it_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoCompiler, match="no C compiler found, looked for cc, gcc, clang"):
        compiled(tmp_path)


def test_a_broken_compiler_is_quoted_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        '[ "$1" = --version ] && echo cc 1.0 && exit 0\n'
        'echo "native.c: In function f:" >&2; echo "native.c:7:1: error: no vectors" >&2; exit 1'
    )
    _only_compiler(tmp_path / "bin", monkeypatch, script)

    with pytest.raises(NoCompiler, match=r"cc failed: native\.c:7:1: error: no vectors$") as caught:
        compiled(tmp_path / "cache")

    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_compiler_that_does_not_start_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _only_compiler(tmp_path / "bin", monkeypatch, "echo licence expired >&2; exit 3")

    with pytest.raises(NoCompiler, match="cc does not run: licence expired"):
        compiled(tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    where = re.escape(str(tmp_path / "file" / "cache"))

    with pytest.raises(NoCompiler, match=f"cannot write in {where}: |no C compiler"):
        compiled(tmp_path / "file" / "cache", flags=QUICK)


# ---- memory


@pytest.mark.slow
@pytest.mark.parametrize("flags", [FLAGS, NARROW], ids=["widest", "narrow"])
def test_no_access_is_out_of_bounds(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Runs the grid of odd shapes below AddressSanitizer and UBSan, which end the process.

    Without optimisation, because with it the compiler takes minutes over the checks.
    """
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
    sanitised = ("-O0", "-g", *flags[1:], *checks)
    library = _built(tmp_path, sanitised)
    runtimes = [_runtime(name) for name in ("libasan.so", "libubsan.so")]
    code = "import sys; from tests.test_native import run_odd_shapes; run_odd_shapes(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(library)],
        cwd=ROOT,
        env={"LD_PRELOAD": ":".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-4000:]


def _runtime(name: str) -> str:
    """Give the path of a sanitizer's library, as the compiler knows it."""
    found = subprocess.run(
        ["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"the compiler has no {name}")
    return found


def run_odd_shapes(library: str) -> None:
    """Run forward and backward over all odd shapes on one and two threads."""
    for number, shape in enumerate(ODD_SHAPES):
        with _threads(1 + number % 2):
            plain, x, grad = made(shape)
            found = outcome(plain, computed_by(plain, Backends(library=library)), x, grad)
            assert found["y"].isfinite().all()
