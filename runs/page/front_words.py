"""What is said of a picture of the front: how to read it, what it shows, what lies outside."""

from __future__ import annotations

from runs.front_view import LIKELY, POSSIBLE, View
from runs.wording import percent, plural


def reading(view: View, objectives: int) -> str:
    """Say in one sentence how to read a pair of axes.

    Args:
        view: what stands where.
        objectives: how many the search looked for.
    """
    if view.empty:
        return "There is nothing to read here: no finished trial has a place on these axes."
    up, across = view.up, view.across
    better = f"{'Higher' if up.direction == 'max' else 'Lower'} is better ({up.label})"
    if across is not None:
        side = "left" if across.direction == "min" else "right"
        better += f", and further {side} is better ({across.label})"
    what = "is on the front, where no other beats it in every objective,"
    if not view.searched:
        what = "is on the front of these two axes, where no other beats it in both,"
    elif objectives == 1:
        what = f"is the best in {up.label}"
    said = (
        f"a filled marker {what} with a probability of {percent(LIKELY)} or more, a hollow "
        f"one of {percent(POSSIBLE)} or more"
        if view.chances
        else f"a coloured marker {what.rstrip(',')}"
    )
    known = bool(view.points[["x_low", "y_low"]].notna().any(axis=None))
    bars = ", bars are 95 % intervals" if known else ""
    return f"{better}: {said}{bars}, and numbers are those of the table."


def alt(view: View) -> str:
    """Say what somebody who cannot see a pair of axes must know."""
    if view.empty:
        return "An empty picture: no finished trial has a place on these axes."
    axes = f"{view.up.label} over {'the trials' if view.across is None else view.across.label}"
    drawn = int(view.points[["x", "y"]].notna().all(axis=1).sum())
    front = int(view.points["on_front"].sum())
    which = "listed in the table below" if view.searched else "that of these two axes alone"
    return (
        f"Scatter plot of {axes} for {plural(drawn, 'trained network')}; "
        f"the front has {plural(front, 'network')} and is {which}."
    )


def beyond(view: View) -> str:
    """Count the networks that lie outside of a chart; empty where there are none."""
    outside = view.outside()
    if not outside:
        return ""
    where = "below" if view.up.direction == "max" else "above"
    lie, them = ("lies", "it") if outside == 1 else ("lie", "them")
    return (
        f"{plural(outside, 'network')} {lie} {where} the picture: double-click it to show {them}."
    )
