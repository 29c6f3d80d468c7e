"""The families once more, straight from official state dicts with torch's plain functions.

Written from the papers and official code as an oracle: nothing here is shared with `builders`.
Each gives the logits and the map after every stage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


def official_forward(family: str, weights: Weights, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    run = {
        "unireplknet": _unireplknet,
        "replknet": _replknet,
        "slak": _convnext,
        "convnext": _convnext,
    }
    return run[family](weights, x)


def _sub(weights: Weights, prefix: str) -> dict[str, Tensor]:
    cut = len(prefix) + 1
    return {key[cut:]: value for key, value in weights.items() if key.startswith(prefix + ".")}


def _count(weights: Weights, pattern: str) -> int:
    found = [int(m[1]) for key in weights if (m := re.match(pattern, key))]
    return max(found, default=-1) + 1


def _bn(w: Weights, x: Tensor) -> Tensor:
    scale = w["weight"] / torch.sqrt(w["running_var"] + 1e-5)
    return (x - w["running_mean"].view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + w["bias"].view(
        1, -1, 1, 1
    )


def _ln(w: Weights, x: Tensor) -> Tensor:
    """Over dimension 1 of (B, C, ...)."""
    mean = x.mean(1, keepdim=True)
    var = (x - mean).square().mean(1, keepdim=True)
    shape = (1, -1, *(1,) * (x.dim() - 2))
    return (x - mean) / torch.sqrt(var + 1e-6) * w["weight"].view(shape) + w["bias"].view(shape)


def _dw(weight: Tensor, x: Tensor, *, bias: Tensor | None = None, r: int = 1, s: int = 1) -> Tensor:
    kh, kw = weight.shape[2:]
    padding = (r * (kh - 1) // 2, r * (kw - 1) // 2)
    return F.conv2d(x, weight, bias, s, padding, r, groups=weight.shape[0])


def _linear(w: Weights, x: Tensor) -> Tensor:
    y = torch.einsum("bihw,oi->bohw", x, w["weight"])
    return y + w["bias"].view(1, -1, 1, 1) if "bias" in w else y


def _pooled_head(w: Weights, x: Tensor) -> Tensor:
    y = _ln(_sub(w, "norm"), x.mean((2, 3)))
    return y @ w["head.weight"].T + w["head.bias"]


def _unireplknet(w: Weights, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    maps = []
    for i in range(4):
        down = _sub(w, f"downsample_layers.{i}")
        x = _ln(_sub(down, "1"), F.conv2d(x, down["0.weight"], down["0.bias"], 2, 1))
        if i == 0:
            x = F.conv2d(F.gelu(x), down["3.weight"], down["3.bias"], 2, 1)
            x = _ln(_sub(down, "4"), x)
        for j in range(_count(w, rf"stages\.{i}\.(\d+)\.")):
            x = x + _unireplknet_block(_sub(w, f"stages.{i}.{j}"), x)
        maps.append(x)
    return _pooled_head(w, x), maps


def _unireplknet_block(w: Weights, x: Tensor) -> Tensor:
    if "dwconv.weight" in w:
        y = _dw(w["dwconv.weight"], x, bias=w.get("dwconv.bias"))
    else:
        y = _dw(w["dwconv.lk_origin.weight"], x, bias=w.get("dwconv.lk_origin.bias"))
        if "dwconv.origin_bn.weight" in w:
            y = _bn(_sub(w, "dwconv.origin_bn"), y)
        for key in w:
            if m := re.match(r"dwconv\.dil_conv_k(\d+)_(\d+)\.weight", key):
                norm = _sub(w, f"dwconv.dil_bn_k{m[1]}_{m[2]}")
                y = y + _bn(norm, _dw(w[key], x, r=int(m[2])))
    if "norm.weight" in w:
        y = _bn(_sub(w, "norm"), y)
    gate = F.conv2d(y.mean((2, 3), keepdim=True), w["se.down.weight"], w["se.down.bias"])
    gate = F.conv2d(gate.clamp(min=0), w["se.up.weight"], w["se.up.bias"])
    y = F.gelu(_linear(_sub(w, "pwconv1.1"), y / (1 + torch.exp(-gate))))
    length = y.square().sum((2, 3), keepdim=True).sqrt()
    share = length / (length.mean(1, keepdim=True) + 1e-6)
    gamma = w["act.1.gamma"].view(1, -1, 1, 1)
    y = (gamma * share + 1) * y
    if "act.1.beta" in w:
        y = y + w["act.1.beta"].view(1, -1, 1, 1)
    y = _linear(_sub(w, "pwconv2.0"), y)
    if "pwconv2.2.weight" in w:
        y = _bn(_sub(w, "pwconv2.2"), y)
    return y * w["gamma"].view(1, -1, 1, 1) if "gamma" in w else y


def _convnext(w: Weights, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    maps = []
    for i in range(4):
        down = _sub(w, f"downsample_layers.{i}")
        if i == 0:
            x = _ln(_sub(down, "1"), F.conv2d(x, down["0.weight"], down["0.bias"], 4))
        else:
            x = F.conv2d(_ln(_sub(down, "0"), x), down["1.weight"], down["1.bias"], 2)
        for j in range(_count(w, rf"stages\.{i}\.(\d+)\.")):
            x = x + _convnext_block(_sub(w, f"stages.{i}.{j}"), x)
        maps.append(x)
    return _pooled_head(w, x), maps


def _convnext_block(w: Weights, x: Tensor) -> Tensor:
    if "dwconv.weight" in w:
        y = _dw(w["dwconv.weight"], x, bias=w["dwconv.bias"])
    else:
        y = torch.zeros_like(x)
        for part in ("LoRA1", "LoRA2", "small_conv"):
            branch = _sub(w, f"large_kernel.{part}")
            y = y + _bn(_sub(branch, "bn"), _dw(branch["conv.weight"], x))
    y = F.gelu(_linear(_sub(w, "pwconv1"), _ln(_sub(w, "norm"), y)))
    return _linear(_sub(w, "pwconv2"), y) * w["gamma"].view(1, -1, 1, 1)


def _replknet(w: Weights, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    def normed(name: str, x: Tensor, *, s: int = 1) -> Tensor:
        weight = w[f"{name}.conv.weight"]
        if weight.shape[1] == 1:
            y = _dw(weight, x, s=s)
        else:
            y = F.conv2d(x, weight, None, s, weight.shape[-1] // 2)
        return _bn(_sub(w, f"{name}.bn"), y)

    for place, stride in enumerate((2, 1, 1, 2)):
        x = normed(f"stem.{place}", x, s=stride).clamp(min=0)
    maps = []
    for i in range(4):
        if i:
            x = normed(f"transitions.{i - 1}.0", x).clamp(min=0)
            x = normed(f"transitions.{i - 1}.1", x, s=2).clamp(min=0)
        for j in range(0, _count(w, rf"stages\.{i}\.blocks\.(\d+)\."), 2):
            wide, deep = (f"stages.{i}.blocks.{k}" for k in (j, j + 1))
            y = normed(f"{wide}.pw1", _bn(_sub(w, f"{wide}.prelkb_bn"), x)).clamp(min=0)
            kernel = f"{wide}.large_kernel"
            if f"{kernel}.lkb_reparam.weight" in w:
                y = _dw(w[f"{kernel}.lkb_reparam.weight"], y, bias=w[f"{kernel}.lkb_reparam.bias"])
            else:
                large = normed(f"{kernel}.lkb_origin", y)
                small = f"{kernel}.small_conv"
                y = large + normed(small, y) if f"{small}.conv.weight" in w else large
            x = x + normed(f"{wide}.pw2", y.clamp(min=0))
            y = F.gelu(normed(f"{deep}.pw1", _bn(_sub(w, f"{deep}.preffn_bn"), x)))
            x = x + normed(f"{deep}.pw2", y)
        maps.append(x)
    y = _bn(_sub(w, "norm"), x).mean((2, 3))
    return y @ w["head.weight"].T + w["head.bias"], maps
