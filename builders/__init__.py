"""From an `Architecture` to a `torch.nn.Module`, and to its merged equal."""

from builders.backbone import Backbone, build_backbone, features_only
from builders.checkpoints import load_official, official_state_dict
from builders.network import Network, build_network, inference_network, merge_network
from builders.timm_registry import register_timm

__all__ = [
    "Backbone",
    "Network",
    "build_backbone",
    "build_network",
    "features_only",
    "inference_network",
    "load_official",
    "merge_network",
    "official_state_dict",
    "register_timm",
]
