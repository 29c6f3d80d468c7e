"""The published networks through timm: its registry, its arguments, its feature extraction.

Runs where timm can be imported, which needs a torchvision made for the installed torch.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import builders
from builders.backbone import Backbone
from builders.checkpoints import official_state_dict
from builders.network import build_network, merge_network
from builders.timm_registry import TimmNetwork, register_timm
from search_space.errors import CheckpointError, ReplkError, SpaceError
from search_space.published import published_networks
from search_space.yaml_io import load_architecture
from tests.family_architectures import EVERY
from tests.random_architectures import randomise

try:
    import timm
except (ImportError, RuntimeError, OSError):  # a torchvision of another torch fails in any of these
    timm = None

needs_timm = pytest.mark.skipif(timm is None, reason="timm cannot be imported here")
NAME = "replk_unireplknet_a"


def _create(name: str = NAME, **arguments: Any) -> Any:
    register_timm()
    return timm.create_model(name, **arguments)


def _images(channels: int = 3, side: int = 64) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))


# ---- without timm


def test_missing_timm_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(ReplkError, match=r"^timm: must be installed .*run: pip install timm$"):
        register_timm()


def test_a_timm_whose_torchvision_does_not_fit_is_named_with_what_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "timm").mkdir()
    failing = 'raise RuntimeError("operator torchvision::nms does not exist")'
    (tmp_path / "timm/__init__.py").write_text(failing)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(ReplkError, match=r"got a failing import \(operator torchvision::nms does"):
        register_timm()


def test_importing_builders_does_not_import_timm() -> None:
    code = "import sys, builders; sys.exit('timm' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", EVERY)
def test_the_model_for_timm_equals_the_network(name: str) -> None:
    network = build_network(EVERY[name], 5)
    randomise(network)
    model = TimmNetwork(EVERY[name], num_classes=5)
    model.load_state_dict(network.state_dict())
    x = _images()

    for form, expected in ((model.eval(), network.eval()), (merge_network(model), None)):
        with torch.no_grad():
            logits = form(x)
            assert torch.equal(form.forward_head(form.forward_features(x)), logits)
            if expected is not None:
                assert torch.equal(logits, expected(x))
            torch.testing.assert_close(logits, network(x), rtol=1e-4, atol=1e-4)
            pooled = form.forward_head(form.forward_features(x), pre_logits=True)
            torch.testing.assert_close(form.get_classifier()(pooled), logits)


@pytest.mark.parametrize("name", EVERY)
def test_a_model_without_classes_gives_channels_or_the_map(name: str) -> None:
    model = TimmNetwork(EVERY[name], num_classes=3)
    width = EVERY[name].widths[-1]
    x = _images()

    model.reset_classifier(0)
    for form in (model, merge_network(model)):
        assert form(x).shape == (2, width)
        assert isinstance(form.get_classifier(), nn.Identity)
    model.reset_classifier(0, "")
    assert model(x).shape[:2] == (2, width)
    assert model(x).dim() == 4
    model.reset_classifier(7, "avg")
    assert (model(x).shape, model.num_classes) == ((2, 7), 7)


def test_a_new_classifier_keeps_the_dtype_of_the_network() -> None:
    model = TimmNetwork(EVERY["convnext"], num_classes=3).double()

    model.reset_classifier(4)

    assert model(_images().double()).dtype == torch.float64


def test_dropout_before_the_classifier_acts_in_training_only() -> None:
    model = TimmNetwork(EVERY["convnext"], num_classes=3, drop_rate=0.9)
    randomise(model)
    x = _images()

    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_what_timm_offers_and_these_networks_do_not_is_refused() -> None:
    with pytest.raises(ReplkError, match=r"^global_pool: must be 'avg', .* got 'max'"):
        TimmNetwork(EVERY["convnext"], global_pool="max")
    with pytest.raises(ReplkError, match=r"^global_pool: must be 'avg', .* got '' for 3 classes$"):
        TimmNetwork(EVERY["convnext"], num_classes=3).reset_classifier(3, "")
    model = TimmNetwork(EVERY["convnext"])
    with pytest.raises(ReplkError, match=r"^grad_checkpointing: must be off"):
        model.set_grad_checkpointing()
    with pytest.raises(ReplkError, match=r"^output_fmt: must be 'NCHW', got 'NLC'$"):
        model.forward_intermediates(_images(), output_fmt="NLC")


# ---- with timm


@needs_timm
def test_every_published_network_is_listed_once_however_often_it_is_registered() -> None:
    names = builders.register_timm()

    assert builders.register_timm() == names
    assert timm.list_models("replk_*") == sorted(names, key=timm.models._registry._natural_key)
    assert len(names) == len(published_networks())
    assert {"replk_unireplknet_t", "replk_replknet_31b", "replk_slak_t"} <= set(names)
    assert not timm.models.is_model("replk_default")


@needs_timm
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("unireplknet_t", 31_693_420),
        ("replknet_31b", 79_864_168),
        ("slak_t", 50_703_838),
        ("convnext_t", 28_589_128),
    ],
)
def test_a_registered_network_has_its_published_parameters(name: str, params: int) -> None:
    with torch.device("meta"):
        model = _create(f"replk_{name}")

    assert sum(parameter.numel() for parameter in model.parameters()) == params
    assert isinstance(model.get_submodule(model.pretrained_cfg["classifier"]), nn.Linear)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert model.get_submodule(model.pretrained_cfg["first_conv"]) is first


@needs_timm
@pytest.mark.slow
def test_every_registered_network_is_the_published_one() -> None:
    with torch.device("meta"):
        for published in published_networks():
            model = _create(f"replk_{published.name}")
            network = build_network(published.architecture, 1000)

            assert model.num_features == published.architecture.widths[-1]
            assert list(model.state_dict()) == list(network.state_dict())
            shapes = [parameter.shape for parameter in model.parameters()]
            assert shapes == [parameter.shape for parameter in network.parameters()]


@needs_timm
def test_arguments_of_timm_act() -> None:
    model = _create(num_classes=10, in_chans=1, drop_path_rate=0.1, drop_rate=0.2)

    assert model(_images(1)).shape == (2, 10)
    assert (model.num_classes, model.in_chans, model.num_features) == (10, 1, 320)
    assert (model.drop_rate, model.stages[-1][-1].drop_path.rate) == (0.2, 0.1)
    assert model.default_cfg["input_size"] == (3, 224, 224)
    assert timm.data.resolve_model_data_config(model)["mean"] == (0.485, 0.456, 0.406)
    assert _create(num_classes=0)(_images()).shape == (2, 320)
    assert _create(num_classes=0, global_pool="")(_images()).shape == (2, 320, 2, 2)
    with pytest.raises(TypeError, match="drop_pathrate"):
        _create(drop_pathrate=0.1)


@needs_timm
def test_features_only_gives_the_chosen_maps() -> None:
    backbone = _create(in_chans=1, features_only=True, out_indices=(1, 2, 3), drop_path_rate=0.1)
    maps = backbone(_images(1))

    assert isinstance(backbone, Backbone)
    assert [tuple(y.shape[1:]) for y in maps] == [(80, 8, 8), (160, 4, 4), (320, 2, 2)]
    assert backbone.feature_info.channels() == [80, 160, 320] == list(backbone.widths)
    assert backbone.feature_info.reduction() == [8, 16, 32] == list(backbone.strides)
    assert backbone.feature_info.module_name() == ["stages.1", "stages.2", "stages.3"]
    assert len(_create(features_only=True)(_images())) == 4
    for last in ((-1,), 1):
        only = _create(features_only=True, out_indices=last)
        assert only.feature_info.channels() == [320] == list(only.widths)


@needs_timm
@pytest.mark.parametrize("kind", ["getter", "hook"])
def test_other_extractors_of_timm_give_the_same_maps(kind: str) -> None:
    torch.manual_seed(0)
    expected = _create(features_only=True, out_indices=(0, 2)).eval()(_images())
    torch.manual_seed(0)
    extractor = _create(features_only=True, out_indices=(0, 2), feature_cls=kind).eval()

    actual = extractor(_images())

    assert all(torch.equal(got, wanted) for got, wanted in zip(actual, expected, strict=True))


@needs_timm
def test_stages_that_do_not_exist_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"^out_indices: must be stages from 0 to 3, .*\(1, 4\)$"):
        _create(features_only=True, out_indices=(1, 4))


@needs_timm
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_checkpoint_of_a_network_loads(tmp_path: Path, suffix: str) -> None:
    network = build_network(load_architecture("unireplknet_a"), 10).eval()
    randomise(network)
    path = tmp_path / f"network.{suffix}"
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    (torch.save if suffix == "pt" else safetensors.torch.save_file)(state, path)  # type: ignore[operator]
    x = _images()

    model = _create(num_classes=10, checkpoint_path=str(path)).eval()
    backbone = _create(features_only=True, out_indices=(1, 2), checkpoint_path=str(path)).eval()

    with torch.no_grad():
        torch.testing.assert_close(model(x), network(x))
        for got, wanted in zip(backbone(x), network.features(x)[1:3], strict=True):
            torch.testing.assert_close(got, wanted)


@needs_timm
def test_an_official_checkpoint_loads_with_a_new_classifier_and_other_channels(
    tmp_path: Path,
) -> None:
    network = build_network(load_architecture("unireplknet_a"), 1000).eval()
    randomise(network)
    path = tmp_path / "official.pth"
    torch.save({"model": official_state_dict(network)}, path)
    arguments = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    x = _images()

    with torch.no_grad():
        whole = _create(**arguments).eval()
        torch.testing.assert_close(whole(x), network(x))
        other = _create(num_classes=10, **arguments).eval()
        assert other(x).shape == (2, 10)
        torch.testing.assert_close(other.forward_features(x), network.features(x)[-1])
        backbone = _create(features_only=True, **arguments).eval()
        torch.testing.assert_close(backbone(x)[-1], network.features(x)[-1])
        grey = _create(in_chans=1, **arguments).eval()
        same = _images(1)
        torch.testing.assert_close(grey(same), network(same.expand(-1, 3, -1, -1)))


@needs_timm
def test_pretrained_weights_that_nobody_ships_are_refused_with_the_way_to_load_them() -> None:
    sentence = (
        r"^replk_unireplknet_a: pretrained must be False, no weights come with it; "
        r".*builders\.load_official\(PATH, 'unireplknet_a'\)$"
    )
    with pytest.raises(CheckpointError, match=sentence):
        _create(pretrained=True)


@needs_timm
def test_layers_are_grouped_from_the_stem_to_the_head() -> None:
    model = _create("replk_unireplknet_a")
    groups = timm.models.group_parameters(model, model.group_matcher())
    coarse = timm.models.group_parameters(model, model.group_matcher(coarse=True))

    layer = {name: number for number, names in groups.items() for name in names}
    assert layer["stem.first.weight"] == 0
    assert layer["stages.0.1.mix.conv.weight"] == 2
    assert layer["stages.1.0.mix.norm.weight"] > layer["transitions.0.conv.weight"] >= 2
    assert layer["head.classify.weight"] == max(groups)
    assert sorted(layer) == sorted(name for name, _ in model.named_parameters())
    assert len(coarse) == 6


@needs_timm
def test_a_model_of_timm_copies_pickles_and_merges() -> None:
    x = _images()
    for arguments in ({"num_classes": 3}, {"features_only": True}):
        model = _create(**arguments)
        randomise(model)
        model.eval()
        with torch.no_grad():
            expected = model(x)
            for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
            merged = merge_network(model)(x)
            torch.testing.assert_close(merged, expected, rtol=1e-3, atol=1e-3)


@needs_timm
def test_a_step_of_timms_optimizer_changes_the_loss() -> None:
    from timm.optim import create_optimizer_v2

    model = _create(num_classes=3, drop_path_rate=0.1)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.7, weight_decay=0.05)
    x, labels = _images(), torch.tensor([0, 2])
    torch.manual_seed(0)
    before = nn.functional.cross_entropy(model(x), labels)
    before.backward()
    optimizer.step()
    torch.manual_seed(0)
    assert nn.functional.cross_entropy(model(x), labels).item() != before.item()
