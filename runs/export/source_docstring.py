"""What the docstring of a stand-alone module says of its network."""

from __future__ import annotations

import textwrap

from builders.blocks import strip_beside
from runs.export.source_layout import WIDTH
from search_space.architecture import Architecture, Stage

FAMILIES = {
    "unireplknet": "UniRepLKNet (arXiv 2311.15599)",
    "replknet": "RepLKNet (arXiv 2203.06717)",
    "slak": "SLaK (arXiv 2207.03620)",
    "convnext": "ConvNeXt (arXiv 2201.03545)",
}
"""What the blocks of a family are called, with their source."""

USE = """
`Network()` is the form that is trained and that the weights fit; `merge(network)` gives a new one
that computes the same in eval mode with fewer layers:

    network = Network()
    network.load_state_dict(safetensors.torch.load_file("weights.safetensors"))
    logits = merge(network)(normalise(images))

"""


def module_docstring(architecture: Architecture, num_classes: int, title: str) -> str:
    """Write the docstring: the title, what the network is, its stages in a table, and its use."""
    height, width = architecture.size
    colours = architecture.channels
    task = (
        "names the class of every pixel of" if architecture.task == "segmentation" else "classifies"
    )
    what = (
        f"A network of {FAMILIES[architecture.block]} blocks with the id {architecture.id}. "
        f"It {task} images of {height} x {width} pixels in "
        f"{_counted(colours, 'channel', 'channels')}: {_counted(num_classes, 'class', 'classes')}."
    )
    parts = [
        _plain(title),
        textwrap.fill(what, WIDTH),
        "\n".join(f"    {line}" for line in _table(architecture)),
        *([textwrap.fill(_sparse(architecture), WIDTH)] if architecture.weights_sparsity else []),
        USE.strip(),
        textwrap.fill(
            f"`images` are (B, {colours}, {height}, {width}) of 0 to 255. In shapes B stands for "
            "images, C for channels, H and W for height and width in pixels.",
            WIDTH,
        ),
    ]
    return '"""' + "\n\n".join(parts) + '\n"""'


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _plain(title: str) -> str:
    """Give a title as a sentence that cannot leave a docstring."""
    line = " ".join("".join(one if one.isprintable() else " " for one in title).split())
    line = line.replace("\\", "\\\\").replace('"', "'") or "A network"
    return textwrap.fill(line if line.endswith((".", "!", "?")) else f"{line}.", WIDTH)


def _sparse(architecture: Architecture) -> str:
    return (
        f"In training a share of {architecture.weights_sparsity:g} of the weights of convolutions "
        "and linear layers was held at zero. The zeros are in the weights; nothing here keeps them."
    )


def _kernel(stage: Stage, kernel: int) -> str:
    strip = strip_beside(stage, kernel)
    return (
        f"{kernel} x {kernel}" if strip is None else f"{kernel} x {strip} with {strip} x {kernel}"
    )


def _table(architecture: Architecture) -> list[str]:
    """Give the lines of the table of the stages."""
    rows = [("stage", "channels", "map", "blocks", "kernel", "hidden")]
    for number, (stage, (height, width)) in enumerate(
        zip(architecture.built_stages, architecture.maps, strict=True)
    ):
        kernels = {kernel: _kernel(stage, kernel) for kernel in stage.kernels}
        rows.append(
            (
                str(number),
                str(stage.width),
                f"{height} x {width}",
                str(stage.depth),
                " and ".join(kernels[kernel] for kernel in sorted(kernels, reverse=True)),
                str(stage.ffn_width),
            )
        )
    sides = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(side) for cell, side in zip(row, sides, strict=True)).rstrip()
        for row in rows
    ]
