"""What differs between networks, axis by axis."""

from __future__ import annotations

from dataclasses import replace

from search_space.architecture import Architecture, Stage, Stem, paper_branches
from search_space.features import Feature, features
from search_space.predicates import parse_predicate
from tests.family_architectures import FAMILY
from tests.made_runs import networks


def network(*kernels: int, **changes: object) -> Architecture:
    """Give a network of one block a stage."""
    stages = tuple(
        Stage(
            depth=1,
            width=16,
            kernel=kernel,
            placement="L" if kernel > 3 else "S",
            dilations=paper_branches(kernel),
        )
        for kernel in kernels
    )
    stages = tuple(replace(stage, **changes) for stage in stages)  # type: ignore[arg-type]
    return Architecture(size=(28, 28), channels=1, stem=Stem(stride=2), stages=stages)


def named(found: list[Feature]) -> dict[str, Feature]:
    """Look features up by name."""
    return {feature.name: feature for feature in found}


def test_only_what_varies_is_an_axis() -> None:
    found = features([network(3, 7), network(3, 13), network(3, 7, structure="se")])
    assert named(found).keys() == {"stages[1].kernel", "shared.structure"}
    kernel, structure = named(found).values()
    assert (kernel.values, kernel.levels, kernel.codes) == ((7, 13, 7), (7, 13), (0, 1, 0))
    assert (kernel.ordered, structure.ordered) == (True, False)
    assert features([network(3, 7)] * 3) == []
    assert features([]) == []


def test_an_axis_that_divides_as_another_is_one() -> None:
    found = features([network(7), network(13, ffn_ratio=2), network(7)])
    assert list(named(found)) == ["stages[0].kernel"]


def test_stages_that_agree_are_shared_unless_there_is_one() -> None:
    assert list(named(features([network(7, 7), network(9, 9)]))) == ["shared.kernel"]
    assert list(named(features([network(7, 7), network(7, 9), network(9, 7)]))) == [
        "stages[0].kernel",
        "stages[1].kernel",
    ]


def test_what_a_network_lacks_is_none_and_sorts_first() -> None:
    found = named(features([network(7, 9), network(7), network(7, 3), network(9, 9)]))
    assert found["stages[1].kernel"].values == (9, "none", 3, 9)
    assert found["stages[1].kernel"].levels == ("none", 3, 9)
    assert found["stages[1].kernel"].codes == (2, 0, 1, 2)


def test_branches_are_named_by_kind_and_the_hidden_width_tells_the_ratio() -> None:
    stages = [
        Stage(depth=1, width=16, kernel=9, placement="L", dilations=found, ffn_hidden=hidden)
        for found, hidden in (((), None), (paper_branches(9), 24), (((5, 1), (3, 2)), 32))
    ]
    found = named(features([Architecture(size=(28, 28), stem=Stem(), stages=(s,)) for s in stages]))
    assert found["stages[0].dilations"].values == ("none", "paper", "2 branches")
    wide = [Stage(depth=1, width=16, placement="S", ffn_hidden=h) for h in (24, 40)]
    found = named(features([Architecture(size=(28, 28), stem=Stem(), stages=(s,)) for s in wide]))
    assert found["stages[0].ffn_ratio"].values == (1.5, 2.5)


def test_what_the_family_decides_is_no_axis_of_its_own() -> None:
    found = named(features(list(FAMILY.values())))
    assert "block" in found
    assert not {"stem.kind", "transition", "head"} & found.keys()
    mixed = replace(FAMILY["slak"], stem=Stem(kind="replknet"))
    assert "stem.kind" in named(features([*FAMILY.values(), mixed]))


def test_names_of_axes_can_be_asked_for() -> None:
    drawn = networks(40)
    found = features(drawn)
    assert len(found) > 8
    for feature in found:
        if feature.ordered:
            level = feature.levels[-1]
            predicate = parse_predicate(f"{feature.name} == {level}")
            assert [predicate(a) for a in drawn] == [value == level for value in feature.values]
