"""The published networks in timm's registry: `timm.create_model("replk_unireplknet_t")`.

timm is imported by the functions that need it: nothing else here does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from builders.backbone import Backbone
from builders.checkpoints import load_official
from builders.heads import HEADS, PooledHead
from builders.network import Network, build_network
from search_space.architecture import Architecture
from search_space.errors import CheckpointError, ReplkError, SpaceError
from search_space.published import published_networks
from search_space.yaml_io import load_architecture

__all__ = ["TimmBackbone", "TimmNetwork", "register_timm"]  # timm adds the names of the models

PREFIX = "replk_"

# timm's registry reads this name of the module that a model's function is from: register_timm
# fills it, and it is as much a part of the registry as what timm keeps itself.
default_cfgs: dict[str, dict[str, Any]] = {}

_FIRST_CONV = {
    "unireplknet": "stem.first",
    "replknet": "stem.layers.0.conv",
    "patchify": "stem.conv",
}


class TimmNetwork(Network):
    """A network with the methods that timm's models have; its parameters have `Network`'s names."""

    def __init__(
        self,
        architecture: Architecture,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        """Build it; the arguments after the architecture are timm's.

        Args:
            architecture: what to build.
            num_classes: number of logits; 0 gives the pooled channels.
            in_chans: channels of the images.
            global_pool: avg; with 0 classes also "", which gives the last map.
            drop_rate: share of the pooled channels that are left out in training.
            drop_path_rate: see `build_network`.
        """
        network = build_network(
            replace(architecture, channels=in_chans), max(1, num_classes), drop_path=drop_path_rate
        )
        super().__init__(
            network.architecture,
            stem=network.stem,
            stages=network.stages,
            transitions=network.transitions,
            head=network.head,
        )
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = architecture.widths[-1]
        self.feature_info = [
            {
                "num_chs": width,
                "reduction": architecture.stem.stride * 2**i,
                "module": f"stages.{i}",
            }
            for i, width in enumerate(architecture.widths)
        ]
        self.global_pool = _checked_pool(global_pool, num_classes)
        if not num_classes:
            self.reset_classifier(0, global_pool)

    def forward_features(self, x: Tensor) -> Tensor:
        """Give the last map."""
        return self.features(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:  # noqa: FBT001, FBT002
        """Give the logits of the last map, or its pooled channels."""
        if not self.global_pool:
            return x
        assert isinstance(self.head, PooledHead)
        pooled_BC = F.dropout(self.head.pooled(x), self.drop_rate, self.training)
        if pre_logits:
            return pooled_BC
        logits: Tensor = self.head.classify(pooled_BC)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits, (B, classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,  # noqa: ARG002, FBT001, FBT002
        stop_early: bool = False,  # noqa: ARG002, FBT001, FBT002
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,  # noqa: FBT001, FBT002
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Give the maps of the stages `indices`, after the last map if not by themselves."""
        if output_fmt != "NCHW":
            raise ReplkError(f"output_fmt: must be 'NCHW', got {output_fmt!r}")
        maps = self.features(x)
        chosen = [maps[index] for index in _stage_numbers(indices, len(maps))]
        return chosen if intermediates_only else (maps[-1], chosen)

    def get_classifier(self) -> nn.Module:
        """Give the linear layer of the head, or the identity where there are no classes."""
        assert isinstance(self.head, PooledHead)
        return self.head.classify

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new linear layer into the head, or with 0 classes the identity."""
        assert isinstance(self.head, PooledHead)
        self.global_pool = _checked_pool(global_pool, num_classes, before=self.global_pool)
        classify: nn.Module = nn.Identity()
        if num_classes:
            classify = nn.Linear(self.num_features, num_classes)
            HEADS[self.architecture.head].draw(classify)
            like = next(self.stages.parameters())
            classify.to(device=like.device, dtype=like.dtype)
        self.head.classify = classify
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:  # noqa: FBT001, FBT002
        """Refuse what these networks do not have."""
        if enable:
            raise ReplkError("grad_checkpointing: must be off, these networks do not have it")

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        """Give the patterns by which timm groups parameters from the first layer to the last."""
        if coarse:
            return {"stem": r"^stem", "blocks": r"^(?:stages|transitions)\.(\d+)"}
        # A transition follows the last block of the stage of its number.
        blocks = [(r"^stages\.(\d+)\.(\d+)", None), (r"^transitions\.(\d+)", (99999,))]
        return {"stem": r"^stem", "blocks": blocks}


class TimmBackbone(Backbone):
    """What `features_only=True` gives: a `Backbone` that names its maps as timm does."""

    def __init__(self, model: TimmNetwork, out_indices: int | Sequence[int]) -> None:
        chosen = _stage_numbers(out_indices, len(model.feature_info))
        super().__init__(model, out_stages=chosen)
        self.feature_info = _timm_models().FeatureInfo(model.feature_info, chosen)


def register_timm() -> list[str]:
    """Put every published network into timm's registry, and give the names, `replk_` first.

    timm.create_model then builds them with timm's arguments: num_classes, in_chans, global_pool,
    drop_rate, drop_path_rate, features_only, out_indices, checkpoint_path. No weights come with
    them: `pretrained=True` wants `pretrained_cfg_overlay={"file": path}`, an official checkpoint or
    one of ours. What is registered stays as it is, so it can be called again.

    Raises:
        ReplkError: timm cannot be imported.
    """
    models = _timm_models()
    names = []
    for published in published_networks():
        name = PREFIX + published.name
        names.append(name)
        if not models.is_model(name):
            default_cfgs[name] = _default_cfg(published.name, published.architecture)
            models.register_model(_entry_point(name))
    return names


def _entry_point(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **arguments: Any) -> nn.Module:  # noqa: FBT001, FBT002
        return _create(name, pretrained=pretrained, **arguments)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"Build {name.removeprefix(PREFIX)}."
    return create


def _create(
    name: str,
    *,
    pretrained: bool,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> nn.Module:
    models, published = _timm_models(), name.removeprefix(PREFIX)
    given = models.resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay)
    if pretrained and not given.has_weights and not given.state_dict:
        raise CheckpointError(
            f"{name}: pretrained must be False, no weights come with it; give an official "
            'checkpoint with pretrained_cfg_overlay={"file": PATH}, or load it with '
            f"builders.load_official(PATH, {published!r})"
        )
    architecture = load_architecture(published)

    def build(**arguments: Any) -> TimmNetwork:
        return TimmNetwork(architecture, **arguments)

    def ours(state_dict: dict[str, Tensor], _model: nn.Module) -> Mapping[str, Tensor]:
        if any(key.startswith("head.classify.") for key in state_dict):
            return state_dict
        return load_official(state_dict, published).state_dict()

    model: nn.Module = models.build_model_with_cfg(
        build,
        name,
        pretrained,
        pretrained_cfg=pretrained_cfg,
        pretrained_cfg_overlay=pretrained_cfg_overlay,
        pretrained_filter_fn=ours,
        feature_cfg={
            "out_indices": tuple(range(len(architecture.stages))),
            "feature_cls": TimmBackbone,
        },
        **arguments,
    )
    return model


def _default_cfg(published: str, architecture: Architecture) -> dict[str, Any]:
    """Describe a network to timm: its images are normalised as its authors' code does."""
    half, imagenet = ((0.5,) * 3,) * 2, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    mean, std = half if published == "replknet_xl" else imagenet
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (architecture.channels, *architecture.size),
        "pool_size": architecture.maps[-1],
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": mean,
        "std": std,
        "first_conv": _FIRST_CONV[architecture.stem.kind],
        "classifier": "head.classify",
    }


def _stage_numbers(indices: int | Sequence[int] | None, stages: int) -> tuple[int, ...]:
    """Read timm's indices: a number is that many of the last stages, None all of them."""
    if indices is None:
        return tuple(range(stages))
    chosen = range(-indices, 0) if isinstance(indices, int) else indices
    if not chosen or not all(-stages <= index < stages for index in chosen):
        raise SpaceError(
            f"out_indices: must be stages from 0 to {stages - 1}, or how many of the last, "
            f"got {indices!r}"
        )
    return tuple(index % stages for index in chosen)


def _checked_pool(given: str | None, num_classes: int, *, before: str = "avg") -> str:
    pool = before if given is None else given
    if pool not in ("avg", "") or (num_classes and not pool):
        raise ReplkError(
            f"global_pool: must be 'avg', or '' where there are no classes, got {pool!r} "
            f"for {num_classes} classes"
        )
    return pool


def _timm_models() -> Any:
    try:
        import timm.models
    except (ImportError, RuntimeError, OSError) as error:  # its torchvision may not fit this torch
        raise ReplkError(
            f"timm: must be installed for its registry, got a failing import ({error}); "
            "run: pip install timm"
        ) from error
    return timm.models
