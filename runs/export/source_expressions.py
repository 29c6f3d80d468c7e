"""What writes a module of `builders` as a call of its plain class in `runs.export.parts`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from builders.blocks import ConvNeXtBlock, RepLKNetBlock, SLaKBlock, UniRepLKNetBlock
from builders.dense import DenseConv
from builders.depthwise import DepthwiseConv
from builders.heads import DenseHead, NormPoolHead, PoolNormHead
from builders.kernels import DilatedReparam, ReparamKernel, Strips
from builders.layers import NormedConv
from builders.stems import PatchifyStem, RepLKNetStem, UniRepLKNetStem
from builders.structures import Shortcut, SqueezeExcite
from builders.transitions import ConvNeXtTransition, RepLKNetTransition, UniRepLKNetTransition
from runs.export.source_layout import Call, Expression, call, pairs

CLASSES = "CLASSES"
"""The constant of the written module that holds the number of classes."""
MIX, STRUCTURE = "mix", "structure"
"""The variables of the written module that hold parts of a block."""


def written(module: nn.Module) -> Expression:
    """Write what makes a module of a training form, on any device; a block is `written_block`.

    Raises:
        KeyError: a class without a plain one: write one in the parts, and name it in `EXPRESSIONS`.
    """
    return EXPRESSIONS[type(module)](module)


def written_block(block: nn.Module, layer_scale: float) -> Expression:
    """Write what makes a block; the variables `MIX` and `STRUCTURE` stand for these parts of it.

    Args:
        block: of a family; it tells all but
        layer_scale: the first value of its layer scale, 0 without one.
    """
    scale = {"layer_scale": f"{float(layer_scale)!r}".replace("e-0", "e-")} if layer_scale else {}
    return EXPRESSIONS[type(block)](block, **scale)


def has_structure(block: nn.Module) -> bool:
    """Say whether a part of a block adds depth to it."""
    return not isinstance(getattr(block, STRUCTURE, nn.Identity()), nn.Identity)


def _unireplknet_block(block: UniRepLKNetBlock, **scale: str) -> Expression:
    named = {MIX: MIX} | ({STRUCTURE: STRUCTURE} if has_structure(block) else {})
    return call("UniRepLKNetBlock", *_mlp_sides(block.feed_forward.mlp), **named, **scale)


def _replknet_block(block: RepLKNetBlock) -> Expression:
    width, hidden = _sides(block.feed_forward.expand.conv)
    _, inner = _sides(block.expand.conv)
    return call("RepLKNetBlock", width, hidden, inner, mix=MIX)


def _convnext_block(block: ConvNeXtBlock, **scale: str) -> Expression:
    return call("ConvNeXtBlock", *_mlp_sides(block.feed_forward.mlp), mix=MIX, **scale)


def _kernel(mix: Any) -> Expression:
    large, *others = (branch.conv for branch in mix.branches)
    named = {"branches": pairs([(conv.kernel, conv.dilation) for conv in others])}
    return call(type(mix).__name__, str(large.width), str(mix.kernel), **(named if others else {}))


def _strips(mix: Any) -> Expression:
    tall = mix.tall.conv
    return call("Strips", str(tall.width), *map(str, tall.kernel))


def _depthwise(conv: DepthwiseConv) -> Expression:
    named = {"dilation": str(conv.dilation)} if conv.dilation > 1 else {}
    named |= {"bias": "True"} if conv.bias is not None else {}
    return call("depthwise", str(conv.width), str(conv.kernel), **named)


def _unireplknet_stem(stem: UniRepLKNetStem) -> Expression:
    strides = str((stem.first.stride[0], stem.second.stride[0]))
    return call(
        "UniRepLKNetStem", *_sides(stem.first), str(stem.second.out_channels), strides=strides
    )


def _replknet_stem(stem: Any) -> Expression:
    first, *_, last = (layer.conv for layer in stem.layers)
    return call("RepLKNetStem", *_sides(first), strides=str((first.stride[0], last.stride[0])))


def _dense_head(head: DenseHead) -> Expression:
    widths = tuple(_sides(lateral)[0] for lateral in head.every.laterals.children())
    pyramid, _ = _sides(head.every.classify)
    return call("DenseHead", Call("", widths), pyramid, CLASSES)


def _sides(conv: Any) -> tuple[str, str]:
    return str(conv.in_channels), str(conv.out_channels)


def _mlp_sides(mlp: Any) -> tuple[str, str]:
    return str(mlp.expand.in_features), str(mlp.expand.out_features)


EXPRESSIONS: dict[type[nn.Module], Callable[..., Expression]] = {
    UniRepLKNetBlock: _unireplknet_block,
    RepLKNetBlock: _replknet_block,
    ConvNeXtBlock: _convnext_block,
    SLaKBlock: _convnext_block,
    DilatedReparam: _kernel,
    ReparamKernel: _kernel,
    Strips: _strips,
    NormedConv: lambda normed: call("NormedConv", written(normed.conv)),
    DepthwiseConv: _depthwise,
    DenseConv: lambda conv: call("pointwise", *_sides(conv)),
    SqueezeExcite: lambda gate: call("SqueezeExcite", *_sides(gate.down)),
    Shortcut: lambda shortcut: call("Shortcut", *map(written, shortcut.layers)),
    UniRepLKNetStem: _unireplknet_stem,
    RepLKNetStem: _replknet_stem,
    PatchifyStem: lambda stem: call(
        "PatchifyStem", *_sides(stem.conv), stride=str(stem.conv.stride[0])
    ),
    UniRepLKNetTransition: lambda row: call("UniRepLKNetTransition", *_sides(row.conv)),
    RepLKNetTransition: lambda row: call("RepLKNetTransition", *_sides(row.expand.conv)),
    ConvNeXtTransition: lambda row: call("ConvNeXtTransition", *_sides(row.conv)),
    PoolNormHead: lambda head: call("PoolNormHead", str(head.classify.in_features), CLASSES),
    NormPoolHead: lambda head: call("NormPoolHead", str(head.classify.in_features), CLASSES),
    DenseHead: _dense_head,
}
"""How a class is written; blocks without their depthwise convolution."""
