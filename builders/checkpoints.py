"""Official checkpoints of the four families: into our networks, and back in the official names."""

from __future__ import annotations

import argparse
import functools
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from builders.network import Network, build_network, published_network
from builders.official_names import family_of, official_names
from search_space.architecture import Architecture
from search_space.errors import CheckpointError, shown
from search_space.yaml_io import load_architecture

HUB = "hf:"
"""What a file of the Hugging Face hub begins with: hf:OWNER/REPOSITORY/FILE."""

WRAPPERS = ("model", "state_dict", "module", "model_ema", "state_dict_ema")
"""Keys under which training scripts keep the state dict of a network; the first that is there."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be made of."""


def load_official(source: Mapping[str, Any] | str | Path, name: str) -> Network:
    """Build a network with official weights.

    Training and merged state dicts are told apart by their keys. The first give the training
    network; the second the form that the official code merges to (see `published_network`), of
    which the training form cannot be had back. Either is in eval mode, has the widest dtype among
    the weights and as many classes as their classifier, and shares no memory with them.

    Args:
        source: a state dict, or where one is: a file of torch or safetensors, or
            hf:OWNER/REPOSITORY/FILE, which huggingface_hub fetches. Nothing in it is executed.
        name: the published name or architecture file of the network.

    Raises:
        CheckpointError: it cannot be read, or a key is missing, extra or misshapen.
        SpaceError: there is no such network.
    """
    where = "state dict" if isinstance(source, Mapping) else str(source)
    weights = source if isinstance(source, Mapping) else read_checkpoint(source)
    weights = _state_dict(weights, where=where)
    architecture = load_architecture(name)
    _check_family(weights, architecture, name=name, where=where)
    classifier = weights.get("head.weight")
    if classifier is None or classifier.dim() != 2 or not len(classifier):
        shape = "none" if classifier is None else _shape(classifier)
        raise CheckpointError(
            f"{where}: must have 'head.weight' of shape (classes, "
            f"{architecture.widths[-1]}), got {shape}; take a checkpoint of a whole classifier"
        )
    with torch.device("meta"):
        trained = build_network(architecture, classifier.shape[0])
    forms = (trained, published_network(trained))
    keys = [_official_keys(form) for form in forms]
    # The form that shares more of its names; where there is but one form, the first.
    shared = [len(weights.keys() & named.values()) / len(named) for named in keys]
    best = shared.index(max(shared))
    network, named = forms[best], keys[best]
    expected = {named[key]: tensor for key, tensor in network.state_dict().items()}
    _check_tensors(weights, expected, name=name, where=where)
    floats = [w.dtype for w in weights.values() if w.is_floating_point()]
    dtype = functools.reduce(torch.promote_types, floats)
    empty = network.state_dict()
    filled = {
        key: weights[official].detach().to(dtype if empty[key].is_floating_point() else torch.int64)
        for key, official in named.items()
    }
    filled = {key: tensor.clone() for key, tensor in filled.items()}
    network.load_state_dict(filled, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval()


def official_state_dict(network: Network) -> dict[str, Tensor]:
    """Give the weights of a network under the names of its family's official code.

    Args:
        network: of one family, in its training form or the one that `published_network` makes.

    Returns:
        Contiguous tensors in the order of the network's state dict, ready for torch.save or
        safetensors.

    Raises:
        CheckpointError: the official code of the family has no such network.
    """
    named = _official_keys(network)
    return {named[key]: tensor.contiguous() for key, tensor in network.state_dict().items()}


def read_checkpoint(source: str | Path) -> Mapping[str, Any]:
    """Read what a checkpoint file holds, without executing anything in it.

    Raises:
        CheckpointError: the file cannot be had, is damaged, or holds other things than tensors.
    """
    path = _fetched(str(source)) if str(source).startswith(HUB) else Path(source)
    try:
        found = path.is_file()
    except (OSError, ValueError):  # a name that no disk can hold
        found = False
    if not found:
        raise CheckpointError(f"{source}: must be a checkpoint file, got none; check the path")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        # Training scripts keep their arguments beside the weights: attributes, nothing that runs.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols that torch does not write itself
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # garbage breaks torch's unpickler anywhere
        asked = re.search(r"(?:GLOBAL|[Uu]nsupported (?:class|global)) ([\w.]+)", str(error))
        if asked:
            raise CheckpointError(
                f"{source}: must hold tensors only, got a pickle that asks for {asked[1]}; nothing "
                "of it was executed, do not trust the file"
            ) from None
        raise CheckpointError(
            f"{source}: must be a whole checkpoint of torch or safetensors, got a file that is "
            f"damaged or of another kind ({_cause(error)}); nothing of it was executed, fetch it "
            "again"
        ) from None
    if not isinstance(held, Mapping):
        raise CheckpointError(
            f"{source}: must hold a state dict, got {type(held).__name__}; "
            "save network.state_dict()"
        )
    return held


def _fetched(name: str) -> Path:
    """Fetch a file of the hub into huggingface_hub's own cache."""
    owner, _, rest = name.removeprefix(HUB).partition("/")
    repository, _, file = rest.partition("/")
    if not owner or not repository or not file:
        raise CheckpointError(
            f"{name}: must be {HUB}OWNER/REPOSITORY/FILE, got {name!r}; for example "
            f"{HUB}DingXiaoH/UniRepLKNet/unireplknet_t_in1k_224_acc83.21.pth"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise CheckpointError(
            f"{name}: needs the package huggingface_hub, got none; install it with "
            "'pip install huggingface_hub', or give a file on disk"
        ) from None
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", file))
    except (OSError, ValueError) as error:  # what its errors derive from
        raise CheckpointError(
            f"{name}: must be a file that the hub gives, got {_cause(error)}; "
            "check the name and the connection"
        ) from None


def _state_dict(held: Mapping[str, Any], *, where: str) -> dict[str, Tensor]:
    """Unwrap what training scripts save, and take the prefix of parallel training away."""
    for wrapper in WRAPPERS:
        inner = held.get(wrapper)
        if isinstance(inner, Mapping):
            held = inner
    weights = {
        str(key).removeprefix("module.").removeprefix("_orig_mod."): value
        for key, value in held.items()
    }
    for key, value in weights.items():
        if strange := _strange(value):
            raise CheckpointError(
                f"{where}: must be a state dict of plain tensors, got {strange} for {shown(key)}; "
                "give network.state_dict()"
            )
    return weights


def _strange(value: Any) -> str:
    """Say what keeps a value from being a weight; nothing where it can be one."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return f"a tensor of {str(value.layout).removeprefix('torch.')} layout on {value.device}"
    if value.dtype not in (*FLOATS, torch.int64):
        return f"numbers of {str(value.dtype).removeprefix('torch.')}"
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return f"a tensor of shape {_shape(value)} that repeats its memory"
    return ""


def _check_family(
    weights: Mapping[str, Tensor], architecture: Architecture, *, name: str, where: str
) -> None:
    family = family_of(set(weights))
    if family is not None and family != architecture.block:
        raise CheckpointError(
            f"{where}: must be a checkpoint of {name}, a {architecture.block}, got one of "
            f"{family}; name the network that it is of"
        )


def _check_tensors(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, name: str, where: str
) -> None:
    """Check keys, shapes and kinds of number, and name the first that differs of each."""
    missing = [key for key in expected if key not in weights]
    extra = [key for key in weights if key not in expected]
    wrong = [
        key
        for key, tensor in expected.items()
        if key in weights
        and (
            weights[key].shape != tensor.shape
            # A norm's count of batches may have been cast with the weights.
            or (tensor.is_floating_point() and not weights[key].is_floating_point())
        )
    ]
    found = []
    if missing:
        found.append(f"no {missing[0]!r} of shape {_shape(expected[missing[0]])}{_more(missing)}")
    if wrong:
        key = wrong[0]
        found.append(
            f"{key!r} of shape {_shape(weights[key])} where {_shape(expected[key])} was "
            f"expected{_more(wrong)}"
        )
    if extra:
        found.append(
            f"an extra {shown(extra[0])} of shape {_shape(weights[extra[0]])}{_more(extra)}"
        )
    if found:
        raise CheckpointError(
            f"{where}: must have the keys and shapes of {name}, got {', and '.join(found)}; "
            "name the network that it is of"
        )


def _official_keys(network: Network) -> dict[str, str]:
    """Give the official key of each of the network's keys."""
    keys = list(network.state_dict())
    for merged in (False, True):
        names = official_names(network.architecture, merged=merged)
        named = {key: _official_key(key, names) for key in keys}
        known = {key: official for key, official in named.items() if official is not None}
        if len(known) == len(keys):
            return known
    strange = next(key for key, official in named.items() if official is None)
    raise CheckpointError(
        f"official names: must be of a training network or of what published_network makes, got "
        f"one with {strange!r}; write those"
    )


def _official_key(key: str, names: Mapping[str, str]) -> str | None:
    if key in names:
        return names[key]
    module, _, leaf = key.rpartition(".")
    return f"{names[module]}.{leaf}" if module in names else None


def _cause(error: Exception) -> str:
    """Give the kind of an error and its first sentence."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    first = text.splitlines()[0].split(". ")[0].rstrip(".") if text else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _more(keys: list[str]) -> str:
    return f" and {len(keys) - 1} more" if len(keys) > 1 else ""


def _shape(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else " of integers"
    return f"({', '.join(map(str, tensor.shape))}){kind}"
