"""One small architecture of every family, and mixtures of them: what backbone tests run on."""

from __future__ import annotations

from dataclasses import replace

from search_space.architecture import Architecture, Stage, Stem, paper_branches
from search_space.families import FAMILIES

_KERNELS = (3, 7, 9, 5)
_WIDTHS = (6, 8, 12, 16)


def small_architecture(
    block: str,
    *,
    stem: str | None = None,
    stride: int = 4,
    transition: str | None = None,
    head: str | None = None,
) -> Architecture:
    """Give four stages of one or two blocks with everything that acts in the family."""
    family = FAMILIES[block]
    stages = []
    for width, kernel in zip(_WIDTHS, _KERNELS, strict=True):
        stage = Stage(
            depth=2 if kernel == 7 else 1, width=width, kernel=kernel, placement="S", ffn_ratio=2
        )
        if kernel > 3:
            stage = replace(stage, placement="LS" if kernel == 7 else "L")
        if block == "unireplknet":
            stage = replace(
                stage,
                dilations=paper_branches(kernel),
                structure="se" if kernel == 7 else "none",
                layer_scale=1e-6,
            )
        elif block == "replknet":
            stage = replace(stage, small_kernel=5 if kernel > 5 else None, dw_ratio=1.5)
        elif block == "slak":
            stage = replace(stage, strip=3 if kernel > 3 else None, layer_scale=1e-6)
        else:
            stage = replace(stage, layer_scale=1e-6)
        stages.append(stage)
    return Architecture(
        size=(64, 64),
        block=block,
        stem=Stem(kind=stem or family.stem, stride=stride),
        transition=transition or family.transition,
        head=head or family.head,
        width_factor=1.3 if block == "slak" else 1,
        weights_sparsity=0.4 if block == "slak" else 0,
        stages=tuple(stages),
    )


FAMILY = {block: small_architecture(block) for block in FAMILIES}
"""The four published families."""

MIXED = {
    "replknet kernels, unireplknet stem": small_architecture(
        "replknet", stem="unireplknet", stride=2, head="pool_norm"
    ),
    "unireplknet, patchify, convnext transition": small_architecture(
        "unireplknet", stem="patchify", stride=2, transition="convnext", head="norm_pool"
    ),
    "slak, replknet stem and transition": small_architecture(
        "slak", stem="replknet", transition="replknet", head="norm_pool"
    ),
    "convnext at full size": small_architecture(
        "convnext", stem="patchify", stride=1, transition="unireplknet"
    ),
}
"""Parts of one family beside those of another."""

EVERY = FAMILY | MIXED
