"""From an `Architecture` to a `torch.nn.Module`, and to its merged equal."""

from builders.network import Network, build_network, merge_network

__all__ = ["Network", "build_network", "merge_network"]
