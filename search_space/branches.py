"""The words of `placement` and `dilations`: from what the YAML says to letters and (k, r) branches."""

from __future__ import annotations

from search_space.architecture import LARGE_KERNEL, Branches, paper_branches
from search_space.axes import Value
from search_space.keys import DEFAULT

Words = Branches
"""Branches as the user declared them, before the map cuts dead taps."""


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
