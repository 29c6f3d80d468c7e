"""The text of a stand-alone module that holds one network: `model.py` of an exported package."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from builders.blocks import BLOCKS
from builders.heads import HEADS
from builders.network import Network, build_network
from builders.parts import truncated_normal
from builders.stems import STEMS
from builders.transitions import TRANSITIONS
from runs.export.source_docstring import module_docstring
from runs.export.source_expressions import (
    CLASSES,
    MIX,
    STRUCTURE,
    has_structure,
    written,
    written_block,
)
from runs.export.source_layout import INDENT, Call, Expression, call, laid_out
from runs.export.source_pieces import names_in, needed_imports, needed_pieces
from search_space.architecture import Architecture, Stage
from search_space.families import DENSE

NORMALISE = '''
def normalise(images: Tensor) -> Tensor:
    """Give images (B, CHANNELS, H, W) of 0 to 255 as `Network` reads them, in float32."""
    mean = torch.tensor(MEAN, dtype=torch.float32, device=images.device).view(-1, 1, 1)
    std = torch.tensor(STD, dtype=torch.float32, device=images.device).view(-1, 1, 1)
    return (images.float() - mean) / std
'''


def model_source(
    architecture: Architecture,
    num_classes: int,
    *,
    title: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    """Give the text of a module that imports only torch and holds this network and nothing else.

    It defines `Network`, whose parameters have the names and shapes of `build_network`'s,
    `merge(network)`, which folds as `inference_network` does, `normalise(images)`, and the
    constants IMAGE_SIZE, CHANNELS, CLASSES, MEAN and STD. It is laid out as ruff leaves it.

    Args:
        architecture: of the network, exactly as it is built.
        num_classes: number of logits, of a dense head for every pixel.
        title: first line of the module's docstring; any text.
        mean: of the pixels of each channel, in units of 0 to 255, as `ImageData.mean_std` has it.
        std: standard deviation of these.

    Raises:
        SpaceError: where the architecture cannot be built.
    """
    with torch.device("meta"):
        network = build_network(architecture, num_classes)
    places = zip(network.stages, architecture.built_stages, architecture.maps, strict=True)
    texts = [_network(network), *(_stage(n, *place) for n, place in enumerate(places))]
    texts.append(NORMALISE.strip())
    texts += needed_pieces("\n".join([*texts, "merge"]))
    imports = needed_imports(names_in(ast.parse("\n".join(texts))))
    head = [
        module_docstring(architecture, num_classes, title),
        "",
        *imports,
        "",
        *_constants(architecture, num_classes, mean, std),
    ]
    return "\n\n\n".join(["\n".join(head), *texts]) + "\n"


def _constants(
    architecture: Architecture, num_classes: int, mean: Sequence[float], std: Sequence[float]
) -> list[str]:
    """Write the constants; a number a channel where they are long."""
    means, deviations = (
        Call("", tuple(repr(float(value)) for value in values)) for values in (mean, std)
    )
    return [
        f"IMAGE_SIZE = {architecture.size}  # height and width in pixels",
        f"CHANNELS = {architecture.channels}",
        f"CLASSES = {num_classes}",
        "# Of the pixels of each channel, in units of 0 to 255.",
        *laid_out(means, before="MEAN = "),
        *laid_out(deviations, before="STD = "),
    ]


def _network(network: Network) -> str:
    """Write the class of the network."""
    architecture = network.architecture
    shape = _shape(architecture.channels, architecture.size)
    dense = architecture.head == DENSE
    logits = f"(B, 2, {CLASSES}, H, W), see `DenseHead`" if dense else f"(B, {CLASSES})"
    stages = Call("", tuple(f"stage_{n}()" for n in range(len(network.stages))), "[")
    transitions = Call("", tuple(map(written, network.transitions)), "[")
    lines = [
        "class Network(nn.Module):",
        f'    """Normalised images {shape} to logits {logits}.',
        "",
        "    In training a block is left out for a random share of the images: 0 for the first,",
        "    `drop_path` for the last, and linearly between them.",
        '    """',
        "",
        "    def __init__(self, drop_path: float = 0.0) -> None:",
        "        super().__init__()",
        *laid_out(written(network.stem), indent=8, before="self.stem = "),
        *laid_out(call("nn.ModuleList", stages), indent=8, before="self.stages = "),
        *laid_out(
            call("nn.ModuleList", *([transitions] if transitions.items else [])),
            indent=8,
            before="self.transitions = ",
        ),
        *laid_out(written(network.head), indent=8, before="self.head = "),
        "        set_drop_path(self.stages, drop_path)",
        *_drawn(architecture),
        "",
        "    def forward(self, images: Tensor) -> Tensor:",
        '        """Give the logits."""',
        *(_dense_forward(architecture) if dense else _forward(architecture)),
        "        return logits",
    ]
    return "\n".join(lines)


def _drawn(architecture: Architecture) -> list[str]:
    """Write the first weights of the parts that do not have those of torch."""
    rows = {
        "stem": STEMS[architecture.stem.kind],
        "stages": BLOCKS[architecture.block],
        "transitions": TRANSITIONS[architecture.transition],
        "head": HEADS[architecture.head],
    }
    drawn = [f"self.{part}" for part, row in rows.items() if row.draw is truncated_normal]
    drawn = ["self"] if len(drawn) == len(rows) else drawn
    return [f"        draw_weights({part})" for part in drawn]


def _forward(architecture: Architecture) -> list[str]:
    shapes = _shapes(architecture)
    lines = [
        f"        x = self.stem(images)  # {shapes[0]}",
        "        x = self.stages[0](x)",
    ]
    for number, shape in enumerate(shapes[1:]):
        lines += [
            f"        x = self.transitions[{number}](x)  # {shape}",
            f"        x = self.stages[{number + 1}](x)",
        ]
    return [*lines, "        logits: Tensor = self.head(x)"]


def _dense_forward(architecture: Architecture) -> list[str]:
    shapes = _shapes(architecture)
    names = tuple(f"x{number}" for number in range(len(shapes)))
    lines = [f"        x0 = self.stages[0](self.stem(images))  # {shapes[0]}"]
    for number, (before, name) in enumerate(pairwise(names)):
        step = f"self.stages[{number + 1}](self.transitions[{number}]({before}))"
        lines.append(f"        {name} = {step}  # {shapes[number + 1]}")
    size = Call("", ("images.shape[-2]", "images.shape[-1]"))
    head = call("self.head", Call("", names, "["), size)
    return [*lines, *laid_out(head, indent=8, before="logits: Tensor = ")]


def _stage(number: int, blocks: nn.Module, stage: Stage, size: tuple[int, int]) -> str:
    """Write the function that makes a stage, several blocks in a loop."""
    assert isinstance(blocks, nn.Sequential)
    letters = stage.placement
    kernels = (written(block.get_submodule(MIX)) for block in blocks)
    mixes = dict(zip(letters, kernels, strict=True))
    count = "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"
    mixed = len(set(mixes.values())) > 1
    sides = f": L with a {stage.kernel} x {stage.kernel} kernel, S with 3 x 3" if mixed else ""
    lines = [
        f"def stage_{number}() -> nn.Sequential:",
        f'    """Make {count} on maps {_shape(stage.width, size)}{sides}."""',
    ]
    indent = INDENT
    if len(blocks) > 1:
        loop = f"letter in {_repeated(letters)}" if mixed else f"_ in range({len(blocks)})"
        lines += ["    blocks = []", f"    for {loop}:"]
        indent = 2 * INDENT
    lines += _mix(mixes, indent)
    first = blocks[0]
    if has_structure(first):
        structure = written(first.get_submodule(STRUCTURE))
        lines += laid_out(structure, indent=indent, before=f"{STRUCTURE} = ")
    block = written_block(first, stage.layer_scale)
    if len(blocks) > 1:
        lines += laid_out(call("blocks.append", block), indent=indent)
        lines.append("    return nn.Sequential(*blocks)")
    else:
        lines += laid_out(call("nn.Sequential", block), indent=indent, before="return ")
    return "\n".join(lines)


def _mix(mixes: Mapping[str, Expression], indent: int) -> list[str]:
    """Write the statement that makes the depthwise convolution of a block, by its letter."""
    if len(set(mixes.values())) == 1:
        return laid_out(next(iter(mixes.values())), indent=indent, before=f"{MIX} = ")
    margin, inner = " " * indent, indent + INDENT
    return [
        f'{margin}if letter == "L":',
        *laid_out(mixes["L"], indent=inner, before=f"{MIX}: nn.Module = "),
        f"{margin}else:",
        *laid_out(mixes["S"], indent=inner, before=f"{MIX} = "),
    ]


def _repeated(letters: str) -> str:
    """Write a placement, its shortest period times a number: LSSLSS as "LSS" * 2."""
    for length in range(1, len(letters) // 2 + 1):
        times, rest = divmod(len(letters), length)
        if not rest and letters == letters[:length] * times:
            return f'"{letters[:length]}" * {times}'
    return f'"{letters}"'


def _shapes(architecture: Architecture) -> list[str]:
    return [
        _shape(width, size)
        for width, size in zip(architecture.widths, architecture.maps, strict=True)
    ]


def _shape(channels: int, size: tuple[int, int]) -> str:
    return f"(B, {channels}, {size[0]}, {size[1]})"
