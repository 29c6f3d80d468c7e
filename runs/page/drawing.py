"""A network as a drawing: stages from left to right, a tile a block, its side that of the kernel.

One scale for all networks: `PIXEL` units of the drawing are a pixel of a kernel. Parallel branches
are dotted squares inside the tile, at the same scale: a dot a tap, so dilation is seen as distance.
What adds depth inside a block is marked by shape and letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from runs.page.document import Drawing
from runs.page.network_words import (
    FAMILY_NAMES,
    HEAD_WORDS,
    STEM_WORDS,
    STRUCTURE_WORDS,
    TRANSITION_WORDS,
    beside,
    groups,
    kernel_words,
    network_words,
    strip_of,
)
from runs.page.svg import moved, picture, px, text, text_width, titled
from runs.wording import plural
from search_space.architecture import Architecture, Stage

PIXEL = 3.2
"""Units of the drawing that a pixel of a kernel is wide: 3x3 is 9.6 wide, 31x31 is 99.2."""
GAP, LINE = 7.0, 14.0
"""Between tiles, and from one line of text to the next."""
HEADING = 3 * LINE + 8
"""Height of the words above a column."""
MOST_TALL = 300.0
"""Height from which the blocks of a stage go on beside the first ones."""
BETWEEN, MARGIN = 20.0, 8.0
"""Between columns, and around them."""
LEAST_ROW = 18.0
"""Height of a block's row where its tile is smaller: that of its label."""

STYLE = """
.net .part{fill:var(--band,#f6f8fa);stroke:var(--soft,#57606a)}
.net .large{fill:var(--marked,#e3f4f6);stroke:var(--mark,#0b5d6b)}
.net .small{fill:var(--soft,#57606a);stroke:none}
.net .taps{fill:none;stroke:var(--ink,#1f2328);stroke-width:1.7;stroke-linecap:round}
.net .close{fill:none;stroke:var(--ink,#1f2328);stroke-width:.8}
.net .reach{fill:none;stroke:var(--mark,#0b5d6b);stroke-width:.6;stroke-dasharray:2 2}
.net .sign{fill:var(--ground,#fff);stroke:var(--ink,#1f2328)}
.net .letter{font-size:9px;font-weight:600}
"""

SIGNS = {
    "se": ("SE", "M-9 0a9 8 0 1 0 18 0a9 8 0 1 0 -18 0z"),
    "bottleneck": ("B", "M-9 -8L9 -8L5 0L9 8L-9 8L-5 0z"),
    "pointwise": ("P", "M-7 -7h14v14h-14z"),
    "depthwise": ("D", "M0 -9.5L9.5 0L0 9.5L-9.5 0z"),
}
"""Letter and outline, around its middle, of what adds depth inside a block."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """A piece of the drawing, its upper left corner at 0, 0."""

    width: float
    height: float
    svg: str


def drawing(architecture: Architecture, *, name: str, key: str = "") -> Drawing:
    """Draw a network.

    Args:
        architecture: what to draw; its built widths are shown.
        name: what the drawing is called.
        key: of its file; empty for none.
    """
    columns = [_image(architecture), _stem(architecture)]
    for number in range(len(architecture.stages)):
        if number:
            columns.append(_transition(architecture, number))
        columns.append(_stage(architecture, number))
    columns.append(_head(architecture))
    body = max(column.height for column in columns)
    middle = MARGIN + HEADING + body / 2
    x, placed, ends = MARGIN, [], []
    for column, heading in zip(columns, _headings(architecture), strict=True):
        wide = max([column.width, *map(text_width, heading)])
        left = x + (wide - column.width) / 2
        placed.append(_words(heading, x + wide / 2))
        placed.append(moved(column.svg, left, middle - column.height / 2))
        ends.append((left, left + column.width))
        x += wide + BETWEEN
    flow = "".join(
        f"M{px(before[1] + 2)} {px(middle)}H{px(after[0] - 2)}" for before, after in pairwise(ends)
    )
    legend = _legend(architecture, x - BETWEEN - MARGIN)
    width = max(x - BETWEEN, MARGIN + legend.width) + MARGIN
    height = MARGIN + HEADING + body + BETWEEN + legend.height + MARGIN
    placed.append(moved(legend.svg, MARGIN, MARGIN + HEADING + body + BETWEEN))
    return picture(
        f'<path class="flow" d="{flow}"/>{"".join(placed)}',
        size=(width, height),
        name=name,
        words=" ".join(network_words(architecture)),
        style=STYLE,
        key=key,
    )


# The words above each column.


def _headings(architecture: Architecture) -> list[list[str]]:
    height, width = architecture.size
    found = [
        ["image", f"{height}x{width}", plural(architecture.channels, "channel")],
        ["stem", architecture.stem.kind, f"stride {architecture.stem.stride}"],
    ]
    for number, stage in enumerate(architecture.built_stages):
        if number:
            found.append([])
        rows, columns = architecture.maps[number]
        found.append(
            [
                f"stage {number + 1}",
                f"{rows}x{columns}, {stage.width} ch",
                f"{plural(stage.depth, 'block')}, hidden {stage.ffn_width}",
            ]
        )
    first, *rest = HEAD_WORDS.get(architecture.head, architecture.head).split(", ")
    return [*found, ["head", first, ", ".join(rest)]]


def _words(lines: Sequence[str], x: float) -> str:
    return "".join(
        text(line, x, MARGIN + 11 + row * LINE, kind="soft" if row else "bold", anchor="middle")
        for row, line in enumerate(lines)
    )


# Columns.


def _image(architecture: Architecture) -> _Part:
    height, width = architecture.size
    longest = max(height, width)
    wide, tall = (max(4.0, 30.0 * side / longest) for side in (width, height))
    shape = f'<rect class="part" width="{px(wide)}" height="{px(tall)}"/>'
    return _Part(width=wide, height=tall, svg=titled("images", shape))


def _stem(architecture: Architecture) -> _Part:
    kind = architecture.stem.kind
    return _funnel(f"stem: {STEM_WORDS.get(kind, kind)}", 30, 44)


def _transition(architecture: Architecture, number: int) -> _Part:
    kind = architecture.transition
    return _funnel(f"to stage {number + 1}: {TRANSITION_WORDS.get(kind, kind)}", 16, 36)


def _funnel(words: str, wide: float, tall: float) -> _Part:
    """Draw what makes a map smaller."""
    cut = tall / 4
    d = f"M0 0L{px(wide)} {px(cut)}V{px(tall - cut)}L0 {px(tall)}z"
    return _Part(width=wide, height=tall, svg=titled(words, f'<path class="part" d="{d}"/>'))


def _head(architecture: Architecture) -> _Part:
    words = HEAD_WORDS.get(architecture.head, architecture.head)
    shape = '<rect class="part" width="30" height="44" rx="8"/>'
    return _Part(width=30, height=44, svg=titled(f"head: {words}", shape))


def _stage(architecture: Architecture, number: int) -> _Part:
    """Stack the blocks of a stage; tall stacks go on in a further one beside the first."""
    stage = architecture.built_stages[number]
    parts = [
        _group(stage, kernels, times, architecture.block)
        for kernels, times in groups(stage.kernels)
    ]
    stacks: list[list[_Part]] = [[]]
    for part in parts:
        tall = sum(one.height + GAP for one in stacks[-1]) + part.height
        if stacks[-1] and tall > MOST_TALL:
            stacks.append([])
        stacks[-1].append(part)
    return _beside([_stacked(stack) for stack in stacks])


def _group(stage: Stage, kernels: Sequence[int], times: int, block: str) -> _Part:
    """Draw neighbouring blocks, with how often they are repeated."""
    wide = max(kernel * PIXEL for kernel in stage.kernels)
    stack = _stacked([_block(stage, kernel, block, wide) for kernel in kernels])
    if times == 1:
        return stack
    x, tall = stack.width + 3, stack.height
    bracket = f'<path class="flow" d="M{px(x)} 0h4V{px(tall)}h-4"/>'
    label = f"\N{MULTIPLICATION SIGN}{times}"
    count = text(label, x + 8, tall / 2 + 4, kind="bold")
    width = x + 12 + text_width(label)
    return _Part(width=width, height=tall, svg=f"{stack.svg}{bracket}{count}")


def _block(stage: Stage, kernel: int, block: str, wide: float) -> _Part:
    """Draw one block in a row `wide` for the largest tile: tile, label, sign of its structure."""
    side = kernel * PIXEL
    tall = max(side, LEAST_ROW)
    tile = moved(_tile(stage, kernel, block), (wide - side) / 2, (tall - side) / 2)
    label = f"{kernel}x{kernel}"
    parts = [tile, text(label, wide + 5, tall / 2 + 4)]
    x = wide + 5 + max(text_width(f"{one}x{one}") for one in stage.kernels) + 3
    words = f"block: depthwise {kernel_words(stage, kernel, block)}"
    if stage.structure in SIGNS:
        parts.append(moved(_sign(stage.structure), x + 12, tall / 2))
        x += 22
        words += f", with {STRUCTURE_WORDS[stage.structure]}"
    return _Part(width=x, height=tall, svg=titled(words, "".join(parts)))


def _tile(stage: Stage, kernel: int, block: str) -> str:
    """Draw a kernel and what is trained beside it, at one scale, upper left corner at 0, 0."""
    side, strip = kernel * PIXEL, strip_of(stage, kernel, block)
    kind = "large" if kernel > 3 else "small"
    if strip is None:
        shape = f'<rect class="{kind}" width="{px(side)}" height="{px(side)}"/>'
    else:
        thin, off = strip * PIXEL, (side - strip * PIXEL) / 2
        shape = (
            f'<rect class="reach" width="{px(side)}" height="{px(side)}"/>'
            f'<rect class="{kind}" x="{px(off)}" width="{px(thin)}" height="{px(side)}"/>'
            f'<rect class="{kind}" y="{px(off)}" width="{px(side)}" height="{px(thin)}"/>'
        )
    return shape + "".join(_taps(k, r, side / 2) for k, r in beside(stage, kernel, block))


def _taps(k: int, r: int, middle: float) -> str:
    """Draw the outermost taps of a branch around the middle of its tile."""
    if r == 1:
        half = k * PIXEL / 2
        start, length = middle - half, 2 * half
        return f'<path class="close" d="{_square(start, length)}"/>'
    length = (k - 1) * r * PIXEL
    # Dots: dashes without length and round ends, one at every tap.
    return (
        f'<path class="taps" stroke-dasharray="0 {px(r * PIXEL)}" '
        f'd="{_square(middle - length / 2, length)}"/>'
    )


def _square(start: float, length: float) -> str:
    return f"M{px(start)} {px(start)}h{px(length)}v{px(length)}h{px(-length)}z"


def _sign(structure: str) -> str:
    letter, outline = SIGNS[structure]
    middle = text(letter, 0, 3.3, kind="letter", anchor="middle")
    return f'<path class="sign" d="{outline}"/>{middle}'


# What the marks mean.


def _legend(architecture: Architecture, wide: float) -> _Part:
    """Explain the marks that this drawing has, in lines that fit it."""
    stages, block = architecture.built_stages, architecture.block
    branches = [r for s in stages for kernel in set(s.kernels) for _, r in beside(s, kernel, block)]
    family = FAMILY_NAMES.get(block, block)
    items = [("", f"Blocks of {family}; a tile is as wide as its depthwise kernel")]
    if any(r == 1 for r in branches):
        items.append((f'<path class="close" d="{_square(-5, 10)}"/>', "trained beside it"))
    if any(r > 1 for r in branches):
        dots = f'<path class="taps" stroke-dasharray="0 5" d="{_square(-5, 10)}"/>'
        items.append((dots, "dilated, a dot a tap"))
    if any(strip_of(s, k, block) for s in stages for k in s.kernels):
        items.append((f'<path class="reach" d="{_square(-6, 12)}"/>', "reach of the two strips"))
    for structure in dict.fromkeys(stage.structure for stage in stages):
        if structure in SIGNS:
            items.append((_sign(structure), STRUCTURE_WORDS[structure]))
    x, y, parts, widest = 0.0, 12.0, [], 0.0
    for mark, words in items:
        long = (24 if mark else 0) + text_width(words) + 10
        if x and x + long > max(wide, 320):
            x, y = 0.0, y + LINE + 8
        parts.append(moved(mark, x + 11, y - 4) if mark else "")
        parts.append(text(words, x + (24 if mark else 0), y, kind="soft"))
        x += long
        widest = max(widest, x)
    return _Part(width=widest, height=y + 8, svg="".join(parts))


# Parts together.


def _stacked(parts: Sequence[_Part]) -> _Part:
    y, svg = 0.0, ""
    for part in parts:
        svg += moved(part.svg, 0, y)
        y += part.height + GAP
    return _Part(width=max(part.width for part in parts), height=y - GAP, svg=svg)


def _beside(parts: Sequence[_Part]) -> _Part:
    x, svg = 0.0, ""
    for part in parts:
        svg += moved(part.svg, x, 0)
        x += part.width + GAP
    return _Part(width=x - GAP, height=max(part.height for part in parts), svg=svg)
