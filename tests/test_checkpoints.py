"""Official checkpoints: names, values, round trips, and everything that is refused."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from builders.checkpoints import load_official, official_state_dict, read_checkpoint
from builders.network import build_network, merge_network, published_network
from search_space.errors import CheckpointError, ReplkError
from search_space.yaml_io import dump_architecture, load_architecture
from tests.official_forward import official_forward
from tests.random_architectures import randomise

# Number of keys of the official code's models with 1000 classes, and the first half of the SHA-256
# of the sorted lines "key sides", sides joined by x.
OFFICIAL_KEYS = {
    ("replknet_31b", "merged"): (931, "d9c98cea3f8e25fd"),
    ("unireplknet_a", "merged"): (156, "5f64d033b6d94b71"),
    ("unireplknet_t", "merged"): (321, "90f899ffcfc31af8"),
    ("convnext_t", "train"): (182, "27c47c26c688d8b6"),
    ("replknet_31b", "train"): (1171, "4b1080fcd0abf5ba"),
    ("slak_t", "train"): (470, "46700f87e513d295"),
    ("unireplknet_a", "train"): (626, "0cddf69c26bff774"),
    ("unireplknet_t", "train"): (1116, "ee6cc62dd19f8396"),
}

# The families with few blocks and channels, kernels and placements as published.
SMALL = {
    "unireplknet": """
block: unireplknet
stages:
  - {depth: 1, width: 8, kernel: 3, placement: S}
  - {depth: 2, width: 16, kernel: 13, dilations: paper}
  - {depth: 4, width: 24, kernel: 13, placement: LSS, dilations: paper}
  - {depth: 1, width: 32, kernel: 13, dilations: paper}
every_stage: {structure: se, se_ratio: 4, ffn_ratio: 4, layer_scale: 1e-6}
""",
    "replknet": """
block: replknet
stages:
  - {depth: 1, width: 6, kernel: 31}
  - {depth: 2, width: 8, kernel: 29}
  - {depth: 2, width: 10, kernel: 27, small_kernel: none}
  - {depth: 1, width: 12, kernel: 13}
every_stage: {dw_ratio: 1.5}
""",
    "slak": """
block: slak
width_factor: 1.3
stages:
  - {depth: 1, width: 6, kernel: 51}
  - {depth: 2, width: 8, kernel: 49}
  - {depth: 1, width: 10, kernel: 47}
  - {depth: 1, width: 12, kernel: 13}
every_stage: {strip: 5, layer_scale: 1e-6}
""",
    "convnext": """
block: convnext
stages:
  - {depth: 1, width: 6}
  - {depth: 2, width: 8}
  - {depth: 1, width: 10}
  - {depth: 1, width: 12}
every_stage: {kernel: 7, layer_scale: 1e-6}
""",
}


@pytest.fixture
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The file of a small network of a family, or a published name."""
    if request.param not in SMALL:
        return str(request.param)
    path = tmp_path / f"{request.param}.yaml"
    path.write_text(f"input: {{channels: 3, size: 64}}{SMALL[request.param]}")
    return str(path)


FAMILIES = (
    *SMALL,
    pytest.param("unireplknet_t", marks=pytest.mark.slow),
    pytest.param("replknet_31b", marks=pytest.mark.slow),
    pytest.param("slak_t", marks=pytest.mark.slow),
    pytest.param("convnext_t", marks=pytest.mark.slow),
)


def _weights(name: str, *, classes: int = 3, merged: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(1)
    network = build_network(load_architecture(name), classes).double().eval()
    randomise(network)
    return official_state_dict(published_network(network) if merged else network)


def _meta_weights(name: str, form: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = build_network(load_architecture(name), 1000)
    return official_state_dict(network if form == "train" else published_network(network))


@pytest.mark.parametrize(("network", "expected"), OFFICIAL_KEYS.items())
def test_keys_and_shapes_are_those_of_the_official_code(
    network: tuple[str, str], expected: tuple[int, str]
) -> None:
    weights = _meta_weights(*network)

    lines = sorted(f"{key} {'x'.join(map(str, tensor.shape))}" for key, tensor in weights.items())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    assert (len(weights), digest) == expected


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", FAMILIES, indirect=True)
def test_logits_and_maps_are_those_of_the_official_code(name: str, merged: bool) -> None:  # noqa: FBT001
    weights = _weights(name, merged=merged)
    images = torch.randn(2, 3, 64, 32, dtype=torch.float64)

    network = load_official(weights, name)
    with torch.no_grad():
        logits, maps = official_forward(network.architecture.block, weights, images)
        pairs = [(network(images), logits), (merge_network(network)(images), logits)]
        pairs += zip(network.features(images), maps, strict=True)

    for actual, expected in pairs:
        assert (actual - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("name", FAMILIES, indirect=True)
def test_a_round_trip_is_the_identity(name: str, merged: bool) -> None:  # noqa: FBT001
    weights = _weights(name, merged=merged)

    back = official_state_dict(load_official(weights, name))

    assert list(back) == list(weights)
    assert all(torch.equal(back[key], weights[key]) for key in weights)
    assert {back[key].dtype for key in back} == {torch.float64, *_integers(weights)}


def _integers(weights: dict[str, Tensor]) -> set[torch.dtype]:
    return {tensor.dtype for tensor in weights.values() if not tensor.is_floating_point()}


def test_every_parameter_is_filled_and_can_be_trained() -> None:
    network = load_official(_weights("unireplknet_a", classes=7), "unireplknet_a")

    assert not network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(tensor.device.type == "cpu" for tensor in network.state_dict().values())
    assert network(torch.zeros(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 7)


def test_the_network_shares_no_memory_with_the_state_dict() -> None:
    weights = _weights("convnext_t")
    before = weights["head.bias"].clone()

    network = load_official(weights, "convnext_t")
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)

    assert torch.equal(weights["head.bias"], before)


def test_what_training_scripts_wrap_around_is_taken_off(tmp_path: Path) -> None:
    weights = _weights("unireplknet_a")
    wrapped = {
        "model": {f"module.{key}": tensor for key, tensor in weights.items()},
        "epoch": 299,
        "args": argparse.Namespace(lr=4e-3),
    }
    torch.save(wrapped, tmp_path / "best.pth")
    safetensors.torch.save_file(weights, tmp_path / "plain.safetensors")

    for file in ("best.pth", "plain.safetensors"):
        back = official_state_dict(load_official(tmp_path / file, "unireplknet_a"))
        assert all(torch.equal(back[key], weights[key]) for key in weights)


def test_weights_of_several_dtypes_become_the_widest() -> None:
    weights = {
        key: tensor.half() if key != "head.bias" else tensor
        for key, tensor in _weights("unireplknet_a").items()
    }
    assert weights["stages.0.0.norm.num_batches_tracked"].dtype == torch.float16

    network = load_official(weights, "unireplknet_a")

    assert {p.dtype for p in network.parameters()} == {torch.float64}
    tracked = network.state_dict()["stages.0.0.mix.norm.num_batches_tracked"]
    assert tracked.dtype == torch.int64


def test_an_architecture_file_names_a_network_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_architecture(load_architecture("unireplknet_a"), name="mine"))

    network = load_official(_weights("unireplknet_a"), str(path))

    assert network.architecture == load_architecture("unireplknet_a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda w: w.pop("stages.1.0.norm.weight"),
            r"got no 'stages.1.0.norm.weight' of shape \(80\); name the network",
        ),
        (
            lambda w: w.update({"stages.1.0.extra": torch.zeros(2, 3)}),
            r"got an extra 'stages.1.0.extra' of shape \(2, 3\); name",
        ),
        (
            lambda w: w.update({"norm.bias": torch.zeros(4)}),
            r"got 'norm.bias' of shape \(4\) where \(320\) was expected; name",
        ),
        (
            lambda w: w.update({"norm.bias": torch.zeros(320, dtype=torch.int64)}),
            r"'norm.bias' of shape \(320\) of integers where \(320\) was expected",
        ),
        (
            lambda w: [w.pop(key) for key in list(w) if key.startswith("stages.3")],
            r"got no 'stages.3.0.\S+' of shape \([\d, ]+\) and 111 more; name",
        ),
        (lambda w: w.pop("head.weight"), r"must have 'head.weight' of shape \(classes, 320\)"),
        (lambda w: w.update({"norm.bias": 3}), r"tensors, got int for 'norm.bias'; give"),
        (
            lambda w: w.update({"norm.bias": torch.zeros(320).to_sparse()}),
            r"got a tensor of sparse_coo layout on cpu for 'norm.bias'",
        ),
        (
            lambda w: w.update({"norm.bias": torch.zeros(320, device="meta")}),
            r"got a tensor of strided layout on meta for 'norm.bias'",
        ),
        (
            lambda w: w.update({"norm.bias": torch.zeros(320, dtype=torch.complex64)}),
            r"got numbers of complex64 for 'norm.bias'",
        ),
        (
            lambda w: w.update({"head.weight": torch.zeros(1, 1).expand(10**9, 320)}),
            r"got a tensor of shape \(1000000000, 320\) that repeats its memory for 'head",
        ),
        (
            lambda w: w.update({"head.weight": torch.zeros(0, 320)}),
            r"'head.weight' of shape \(classes, 320\), got \(0, 320\)",
        ),
        (lambda w: w.update({"x" * 10**5: torch.zeros(1)}), r"an extra 'x+\.\.\. \(100,002 char"),
    ],
)
def test_a_state_dict_that_differs_is_refused_with_the_key(change: Any, said: str) -> None:
    weights = dict(_weights("unireplknet_a"))
    change(weights)

    with pytest.raises(CheckpointError, match=rf"^state dict: .*{said}") as caught:
        load_official(weights, "unireplknet_a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        ("convnext", "slak_t", "checkpoint of slak_t, a slak, got one of convnext; name"),
        ("slak", "replknet_31b", "a replknet, got one of slak"),
        ("replknet", "unireplknet_t", "a unireplknet, got one of replknet"),
        ("unireplknet", "convnext_t", "a convnext, got one of unireplknet"),
        ("convnext", "convnext_s", "keys and shapes of convnext_s, got no 'stages.0.1"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(
    given: str, named: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "given.yaml"
    path.write_text(f"input: {{channels: 3, size: 64}}{SMALL[given]}")

    with pytest.raises(CheckpointError, match=said):
        load_official(_weights(str(path)), named)


def test_an_empty_state_dict_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"got none; take a checkpoint"):
        load_official({}, "convnext_t")
    with pytest.raises(ReplkError, match=r"^convnext_tt: must be .* did you mean"):
        load_official({}, "convnext_tt")


class _Runs:
    """Unpickles into a call that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_carries_code_is_refused_and_nothing_is_run(
    tmp_path: Path,
    zipped: bool,  # noqa: FBT001
) -> None:
    trap, file = tmp_path / "trap", tmp_path / "evil.pth"
    if zipped:
        torch.save({"model": _Runs(trap)}, file)
    else:
        file.write_bytes(pickle.dumps({"model": _Runs(trap)}))

    with pytest.raises(CheckpointError, match=r"evil.pth: must .* nothing of it was executed"):
        load_official(file, "convnext_t")
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused_in_one_sentence(
    tmp_path: Path, suffix: str, share: float
) -> None:
    file = tmp_path / f"cut{suffix}"
    weights = {"head.weight": torch.zeros(10, 1000)}
    if suffix == ".pth":
        torch.save(weights, file)
    else:
        safetensors.torch.save_file(weights, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])

    with pytest.raises(CheckpointError, match=r"cut\S+: must be a whole checkpoint of ") as caught:
        load_official(file, "convnext_t")
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("these are no weights\n")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")

    (tmp_path / "zeros.pth").write_bytes(bytes(1000))
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "other.pth")

    for name, said in (
        ("text.pth", "must be a whole checkpoint"),
        ("zeros.pth", "must be a whole checkpoint"),
        ("other.pth", "must be a whole checkpoint"),
        ("x" * 300, "must be a checkpoint file, got none"),
        ("list.pth", "must hold a state dict, got list"),
        ("none.pth", "must be a checkpoint file, got none"),
        ("", "must be a checkpoint file, got none"),
    ):
        with pytest.raises(CheckpointError, match=said):
            read_checkpoint(tmp_path / name)


def test_a_name_of_the_hub_says_what_it_must_be() -> None:
    with pytest.raises(CheckpointError, match=r"^hf:weights.pth: must be hf:OWNER/REPOSITORY/FILE"):
        read_checkpoint("hf:weights.pth")


def test_without_huggingface_hub_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)

    with pytest.raises(CheckpointError, match=r"install it with 'pip install huggingface_hub'"):
        read_checkpoint("hf:owner/repository/weights.pth")


def test_what_the_official_code_does_not_have_has_no_official_names(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(
        "input: {channels: 3, size: 32}\nblock: convnext\nstem: {kind: replknet}\n"
        "stages: [{depth: 1, width: 8}]\n"
        "every_stage: {kernel: 7}\n"
    )
    mixed = build_network(load_architecture(path), 3)
    bottleneck = build_network(load_architecture("unireplknet_ablation_bottleneck"), 3)
    merged = merge_network(build_network(load_architecture("convnext_t"), 3))

    for network, said in (
        (mixed, "with stem patchify, transition convnext and head pool_norm"),
        (bottleneck, "with structure se, got bottleneck"),
        (merged, "must be of a training network"),
    ):
        with pytest.raises(CheckpointError, match=said):
            official_state_dict(network)  # type: ignore[arg-type]
