"""The stand-alone module of a network: the same parameters, the same numbers, only torch."""

from __future__ import annotations

import ast
import builtins
import inspect
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.network import build_network, inference_network
from evaluators.batches import Normaliser
from evaluators.images import ImageData, Split
from runs.export.source import model_source
from runs.export.source_pieces import MODULES, all_pieces
from search_space.architecture import Architecture, Stage, Stem
from search_space.families import FAMILIES, STRUCTURES
from search_space.published import published_networks
from tests.family_architectures import EVERY, small_architecture
from tests.random_architectures import random_architecture, randomise

CLASSES = 5
STANDARD = sys.stdlib_module_names
SMALL = {name: replace(row, size=(40, 33)) for name, row in EVERY.items()}
DENSE = {
    block: replace(small_architecture(block, head="dense"), size=(33, 40)) for block in FAMILIES
}


@cache
def source_of(architecture: Architecture, title: str = "A net") -> str:
    channels = architecture.channels
    mean, std = (100.0,) * channels, (50.0,) * channels
    return model_source(architecture, CLASSES, title=title, mean=mean, std=std)


def run(text: str, imported: set[str] | None = None) -> Any:
    """Run the text of a module; note the packages that it imports, not what these import."""
    module = ModuleType("model")

    def note(name: str, *rest: Any) -> Any:
        if imported is not None:
            imported.add(name.split(".")[0])
        return builtins.__import__(name, *rest)

    vars(module)["__builtins__"] = vars(builtins) | {"__import__": note}
    exec(compile(text, "model.py", "exec"), vars(module))
    return module


def pair_of(architecture: Architecture) -> tuple[Any, nn.Module, nn.Module]:
    """Give the module, our network with random weights in float64, and theirs with the same."""
    ours = build_network(architecture, CLASSES).double()
    randomise(ours)
    module = run(source_of(architecture))
    theirs: nn.Module = module.Network().double()
    theirs.load_state_dict(ours.state_dict())
    return module, ours, theirs


def images_of(architecture: Architecture, number: int = 2) -> Tensor:
    return torch.randn(number, architecture.channels, *architecture.size, dtype=torch.float64)


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def shapes_of(network: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]


def assert_equal(architecture: Architecture) -> None:
    """Hold names, shapes and numbers of both forms against ours, in eval mode."""
    module, ours, theirs = pair_of(architecture)
    assert shapes_of(theirs) == shapes_of(ours)
    images = images_of(architecture)
    with torch.no_grad():
        expected, found = ours.eval()(images), theirs.eval()(images)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        merged, folded = inference_network(ours), module.merge(theirs)
        expected, found = merged(images), folded(images)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))
        assert torch.equal(module.merge(folded)(images), found)
    assert parameters_of(folded) == parameters_of(merged)
    assert not folded.training


@pytest.mark.parametrize("name", SMALL)
def test_every_family_and_mixture_computes_the_same(name: str) -> None:
    assert_equal(SMALL[name])


def test_a_dense_head_computes_the_same() -> None:
    assert_equal(DENSE["unireplknet"])


@pytest.mark.parametrize("seed", range(4))
def test_any_architecture_computes_the_same(seed: int) -> None:
    assert_equal(random_architecture(seed))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_computes_the_same(structure: str) -> None:
    stages = tuple(
        Stage(
            depth=depth,
            width=6,
            kernel=kernel,
            placement="LS"[:depth],
            dilations=branches,
            structure=structure,
            ffn_hidden=7,
        )
        for depth, kernel, branches in [(1, 31, ((3, 15), (5, 1))), (2, 5, ()), (2, 5, ((1, 1),))]
    )
    assert_equal(
        Architecture(size=(9, 16), channels=1, stem=Stem(kind="patchify", stride=2), stages=stages)
    )


@pytest.mark.parametrize("block", FAMILIES)
def test_it_trains_as_ours_does(block: str) -> None:
    architecture = SMALL[block]
    _, ours, theirs = pair_of(architecture)
    images, labels = images_of(architecture, 4), torch.tensor([0, 1, 2, 3])
    for network in (ours.train(), theirs.train()):
        nn.functional.cross_entropy(network(images), labels).backward()

    expected = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-8, atol=1e-10)
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(theirs.get_buffer(name), buffer)


@pytest.mark.parametrize("block", ["unireplknet", "slak"])
def test_merging_leaves_the_network_and_the_generator_as_they_were(block: str) -> None:
    module, _, theirs = pair_of(SMALL[block])
    before = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    torch.manual_seed(3)
    folded = module.merge(theirs.train())
    assert torch.initial_seed() == 3
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(3)))
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.zero_()
    assert theirs.training
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_blocks_are_left_out_at_the_rates_of_ours() -> None:
    architecture = SMALL["unireplknet"]
    theirs = run(source_of(architecture)).Network(drop_path=0.4)
    ours = build_network(architecture, CLASSES, drop_path=0.4)
    rates = [
        [part.rate for name, part in network.named_modules() if name.endswith("drop_path")]
        for network in (theirs, ours)
    ]
    assert rates[0] == rates[1]
    assert max(rates[0]) == 0.4


def test_a_left_out_block_gives_what_it_was_given() -> None:
    architecture = SMALL["convnext"]
    network = run(source_of(architecture)).Network(drop_path=0.5).train()
    block = network.stages[-1][-1]
    x = torch.randn(64, 16, 2, 2)
    whole = block.eval()(x) - x
    added = block.train()(x) - x
    left_out = added.flatten(1).abs().amax(dim=1) == 0
    assert 10 < left_out.sum() < 54
    torch.testing.assert_close(added[~left_out], 2 * whole[~left_out])


@pytest.mark.parametrize("block", FAMILIES)
def test_first_weights_are_drawn_as_ours(block: str) -> None:
    architecture = replace(
        SMALL[block],
        stages=tuple(replace(stage, width=8 * stage.width) for stage in SMALL[block].stages),
    )
    ours = build_network(architecture, CLASSES).state_dict()
    for name, tensor in run(source_of(architecture)).Network().state_dict().items():
        expected = ours[name].double()
        if tensor.numel() < 1000 or not expected.any():
            assert bool(tensor.any()) == bool(expected.any()), name
        else:
            assert float(tensor.double().std()) == pytest.approx(float(expected.std()), rel=0.2), (
                name
            )


def test_it_imports_only_torch_and_the_standard_library() -> None:
    for architecture in (*SMALL.values(), *DENSE.values()):
        imported: set[str] = set()
        run(source_of(architecture), imported)
        assert "torch" in imported
        assert imported - {"torch"} <= STANDARD


def test_the_parts_import_only_torch_the_standard_library_and_parts() -> None:
    imported = [
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        for module in MODULES
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    foreign = [name for name in imported if not name.startswith("runs.export.parts.")]
    assert {name.split(".")[0] for name in foreign} - STANDARD == {"torch"}


def test_it_holds_only_what_the_network_needs() -> None:
    plain = source_of(SMALL["convnext"])
    assert "class ConvNeXtBlock" in plain
    for name in ("ResponseNorm", "SqueezeExcite", "BatchNorm2d", "Strips", "Pyramid", "RepLK"):
        assert name not in plain
    assert "class NormedPyramid" in source_of(DENSE["convnext"])


def test_every_part_is_needed_by_some_network() -> None:
    deep = tuple(replace(stage, structure="depthwise") for stage in SMALL["unireplknet"].stages)
    rows = [*SMALL.values(), *DENSE.values(), replace(SMALL["unireplknet"], stages=deep)]
    written = "\n".join(map(source_of, rows))
    assert all(piece.text in written for piece in all_pieces().values())


def test_images_are_normalised_as_in_the_search() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    split = Split(images=images, labels=np.arange(4))
    data = ImageData(
        name="x", source="x", train=split, val=split, test=split, classes=("a",) * 4, sha256=""
    )
    mean, std = data.mean_std
    text = model_source(SMALL["convnext"], CLASSES, title="A net", mean=mean, std=std)
    bytes_BHWC = torch.from_numpy(images)

    normalised = run(text).normalise(bytes_BHWC.permute(0, 3, 1, 2))

    assert normalised.dtype == torch.float32
    expected = Normaliser(data, torch.device("cpu"))(bytes_BHWC)
    torch.testing.assert_close(normalised, expected, rtol=1e-5, atol=1e-6)


def test_its_constants_are_those_of_the_network() -> None:
    module = run(source_of(replace(SMALL["replknet"], channels=1)))
    assert (module.IMAGE_SIZE, module.CHANNELS, module.CLASSES) == ((40, 33), 1, CLASSES)
    assert (module.MEAN, module.STD) == ((100.0,), (50.0,))


def test_its_docstring_says_what_it_is() -> None:
    text = run(source_of(SMALL["slak"], "Best of a run")).__doc__
    assert text.splitlines()[0] == "Best of a run."
    assert SMALL["slak"].id in text
    assert "share of 0.4 of the weights" in text
    assert "held at zero" not in run(source_of(SMALL["convnext"])).__doc__


TITLES = [
    ('"""\nimport os', "''' import os."),
    ('ends in a quote"', "ends in a quote'."),
    ("\\", "\\."),
    ("\\N{DOLLAR} \\x", "\\N{DOLLAR} \\x."),
    ("", "A network."),
    (
        "Nul\x00, line\u2028, right to left \u202e, half \ud800",
        "Nul , line , right to left , half.",
    ),
    ("Grün <b>", "Grün <b>."),
]


@pytest.mark.parametrize(("title", "line"), TITLES)
def test_no_title_leaves_the_docstring(title: str, line: str) -> None:
    text = source_of(SMALL["convnext"], title)
    assert run(text).__doc__.splitlines()[0] == line
    text.encode("utf-8")


def assert_tidy(folder: Path, texts: Sequence[str]) -> None:
    """Hold the texts against ruff: its default rules, and its layout at 100 columns."""
    for number, text in enumerate(texts):
        (folder / f"model_{number}.py").write_text(text, "utf-8")
    for command in (("check",), ("format", "--diff")):
        words = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache"]
        done = subprocess.run(
            [*words, "--line-length", "100", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_laid_out_as_ruff_leaves_it(tmp_path: Path) -> None:
    stage = Stage(depth=9, width=1024, kernel=31, placement="LSSLSLLLS", ffn_hidden=12345)
    branches = tuple((3, dilation) for dilation in range(1, 16))
    wide = replace(stage, dilations=branches, structure="bottleneck", layer_scale=1e-5)
    many = replace(SMALL["unireplknet"], size=(512, 512), stages=(stage,) * 4 + (wide,) * 3)
    rows = [*SMALL.values(), *DENSE.values(), *map(random_architecture, range(6)), many]
    rows.append(replace(many, head="dense"))
    assert_tidy(
        tmp_path,
        [*map(source_of, rows), *(source_of(SMALL["convnext"], title) for title, _ in TITLES)],
    )


@pytest.mark.slow
@pytest.mark.parametrize("block", ["replknet", "slak", "convnext"])
def test_a_dense_head_behind_every_family_computes_the_same(block: str) -> None:
    assert_equal(DENSE[block])


@pytest.mark.slow
def test_three_hundred_architectures_compute_the_same(tmp_path: Path) -> None:
    rows = [random_architecture(seed, largest=24) for seed in range(1000, 1300)]
    rows = [replace(row, head="dense") if not n % 3 else row for n, row in enumerate(rows)]
    for row in rows:
        assert_equal(row)
    assert_tidy(tmp_path, [source_of(row) for row in rows])


@pytest.mark.slow
def test_every_published_network_is_written(tmp_path: Path) -> None:
    texts = []
    for published in published_networks():
        row = published.architecture
        texts.append(source_of(row, published.name))
        module = run(texts[-1])
        with torch.device("meta"):
            ours, theirs = build_network(row, CLASSES), module.Network()
        assert shapes_of(theirs) == shapes_of(ours)
        merged = inference_network(ours)
        assert parameters_of(module.merge(theirs)) == parameters_of(merged)
        assert_equal(
            replace(
                row,
                size=(64, 64),
                stages=tuple(
                    replace(
                        stage,
                        depth=min(4, stage.depth),
                        placement=stage.placement[:4],
                        width=stage.width // 32,
                    )
                    for stage in row.stages
                ),
            )
        )
    assert len(texts) > 30
    assert_tidy(tmp_path, texts)


@pytest.mark.slow
def test_the_merged_form_runs_in_onnx_runtime() -> None:
    session = pytest.importorskip("evaluators.onnx_session")
    for row in (*SMALL.values(), *DENSE.values()):
        module, _, theirs = pair_of(row)
        folded, images = module.merge(theirs.float()), images_of(row, 3).float()
        model = session.exported(folded, images)
        with torch.no_grad():
            expected = folded(images)
        found = session.forward_pass(model, images)()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_type_checker_agrees_and_nothing_of_ours_is_loaded(tmp_path: Path) -> None:
    for number, row in enumerate((*SMALL.values(), *DENSE.values())):
        (tmp_path / f"model_{number}.py").write_text(source_of(row), "utf-8")
    check = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent"]
    done = subprocess.run(
        [*check, "--cache-dir", str(tmp_path / "cache"), *map(str, tmp_path.glob("*.py"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    probe = (
        "import sys; sys.path.insert(0, '.')\n"
        "import model_0, torch\n"
        "network = model_0.Network()\n"
        "images = torch.zeros(2, model_0.CHANNELS, *model_0.IMAGE_SIZE, dtype=torch.uint8)\n"
        "print(tuple(model_0.merge(network)(model_0.normalise(images)).shape))\n"
        "print({'search_space', 'builders', 'evaluators', 'runs'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", probe],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == [str((2, CLASSES)), "set()"]
