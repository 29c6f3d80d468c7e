"""The words of `placement` and `dilations`, and the stage that the words of a space describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_space.architecture import LARGE_KERNEL, Branches, Stage, paper_branches
from search_space.axes import Value
from search_space.families import FAMILIES
from search_space.keys import DEFAULT


def expanded(placement: str, depth: int) -> str:
    """Repeat the letters over the depth of a stage: LSS over 4 blocks is LSSL."""
    return (placement * depth)[:depth]


def span(branch: tuple[int, int]) -> int:
    """Give the pixels that a branch (k, r) spans: (k - 1) r + 1."""
    k, r = branch
    return (k - 1) * r + 1


def resolved(word: Value, kernel: int) -> Branches | None:
    """Give the branches that a word means beside a declared kernel; None where they cannot exist.

    A branch must lie inside its kernel, (k - 1) r + 1 <= K, for the merge to be exact
    (UniRepLKNet, arXiv 2311.15599, section 3.2).
    """
    if word == DEFAULT:
        return paper_branches(kernel) if kernel >= LARGE_KERNEL else ()
    if word == "none":
        return ()
    if word == "paper":
        return paper_branches(kernel)
    assert isinstance(word, tuple)
    return word if all(span(branch) <= kernel for branch in word) else None


def written_stage(words: Mapping[str, Any], *, block: str) -> Stage | None:
    """Give the stage that one value for each key describes, nothing cropped.

    Keys that the family does not have are left at what changes nothing.

    Returns:
        The stage; None where a branch is wider than its kernel, which cannot be built.
    """
    acts = FAMILIES[block].stage_keys
    depth, kernel = words["depth"], words["kernel"]
    placement = expanded(words["placement"], depth)
    large = kernel > 3 and "L" in placement
    branches = resolved(words["dilations"], kernel) if large and "dilations" in acts else ()
    if branches is None:
        return None

    def optional(key: str) -> Any:
        return words[key] if key in acts and words[key] != "none" else None

    return Stage(
        depth=depth,
        width=words["width"],
        kernel=kernel,
        placement=placement,
        dilations=branches,
        structure=words["structure"] if "structure" in acts else "none",
        se_ratio=words["se_ratio"],
        ffn_ratio=words["ffn_ratio"],
        ffn_hidden=None if words["ffn_hidden"] == "none" else words["ffn_hidden"],
        layer_scale=optional("layer_scale") or 0.0,
        small_kernel=optional("small_kernel") if large else None,
        dw_ratio=words["dw_ratio"] if "dw_ratio" in acts else 1,
        strip=optional("strip") if large else None,
    )
