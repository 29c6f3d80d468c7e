"""Drawing from a space: everything is reached, nothing idle is asked for, Optuna never confused."""

from __future__ import annotations

import copy
import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
import yaml

from search_space.architecture import cropped_kernel
from search_space.axes import text_key
from search_space.errors import SpaceError
from search_space.space import Constraint, DesignSpace
from search_space.yaml_io import load_space, parse_space
from tests.random_spaces import EXAMPLE, Path, paths, random_space

MOST = 800


class Recorder:
    """Stands in for a trial: the first or the last option; writes down what it was asked."""

    def __init__(self, place: int = 0) -> None:
        self.place = place
        self.asked: dict[str, object] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = list(choices)
        return choices[self.place]

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self.asked[name] = (low, high, step, log)
        return (low, high)[self.place]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked[name] = (low, high, log)
        return (low, high)[self.place]


def space_of(stages: str, *, size: int = 32, more: str = "") -> DesignSpace:
    return parse_space(f"input: {{channels: 1, size: {size}}}\nstages: [{stages}]\n{more}")


def asked_for(space: DesignSpace) -> set[str]:
    return {name for path in paths(space) for name, _ in path.picks}


@pytest.mark.parametrize("seed", range(60))
def test_the_draws_reach_exactly_the_networks_of_the_census(seed: int) -> None:
    space = random_space(seed, most=MOST)
    drawn = [path.network for path in paths(space)]
    assert {network.id for network in drawn if network} == {a.id for a in space.census.all()}
    assert all(network == network.canonical for network in drawn if network)


class Told:
    """Stands in for a trial: answers as it was told."""

    def __init__(self, answers: dict[str, int | float | str]) -> None:
        self.left = dict(answers)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        assert self.left[name] in choices
        return self.left.pop(name)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        assert self.left[name] in range(low, high + 1, 1 if log else step)
        return int(self.left.pop(name))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        assert log or low <= float(self.left[name]) <= high
        return float(self.left.pop(name))


@pytest.mark.parametrize("seed", range(60))
def test_every_network_is_drawn_again_from_its_answers(seed: int) -> None:
    space = random_space(seed, most=MOST)
    for network in space.census.all():
        told = Told(space.answers(network))
        assert space.suggest(told).id == network.id
        assert told.left == {}


def test_answers_hold_the_numbers_of_ranges() -> None:
    space = space_of(
        "{depth: 1, width: {int: [4, 8], step: 2}, kernel: 3, ffn_ratio: {float: [1, 4]}}"
    )
    network = space.suggest(Told({"stages[0].width": 6, "stages[0].ffn_ratio": 2.5}))
    assert space.answers(network) == {"stages[0].width": 6, "stages[0].ffn_ratio": 2.5}


def test_a_network_of_another_space_has_no_answers() -> None:
    space, other = (space_of(f"{{depth: 1, width: {width}, kernel: 3}}") for width in (4, 8))
    with pytest.raises(ValueError, match=r"^[0-9a-f]{12}: must be a network of "):
        space.answers(other.suggest(Told({})))


@pytest.mark.parametrize("seed", range(60))
def test_two_paths_through_the_axes_of_stages_never_lead_to_one_network(seed: int) -> None:
    # Shared axes may: what one of them changes can be undone by no stage using it.
    space, seen = random_space(seed, most=MOST), Counter[tuple[object, ...]]()
    for path in paths(space):
        assert path.network is not None
        shared = tuple(pick for pick in path.picks if pick[0].startswith("shared."))
        seen[(path.network.id, shared)] += 1
    assert set(seen.values()) == {1}


@pytest.mark.parametrize("seed", range(60))
def test_an_axis_is_asked_for_at_most_once_and_with_a_choice(seed: int) -> None:
    for path in paths(random_space(seed, most=MOST)):
        names = [name for name, _ in path.picks]
        assert len(set(names)) == len(names)
        assert all(len(options) > 1 for options in path.offered)


def acts(path: Path, index: int, key: str) -> bool:
    """Whether a key acts on a stage of what was drawn, or made it one of small blocks."""
    assert path.network is not None
    stage, side = path.network.stages[index], max(path.network.maps[index])
    large = "L" in stage.placement
    if key == "kernel":
        return large or cropped_kernel(dict(path.picks)[f"stages[{index}].kernel"], side) == 3
    if key == "placement":
        word = dict(path.picks)[f"stages[{index}].placement"]
        return large or "L" not in (word * stage.depth)[: stage.depth]
    if key in ("dilations", "small_kernel", "strip"):
        return large
    return key != "se_ratio" or stage.structure == "se"


@pytest.mark.parametrize("seed", range(60))
def test_what_a_stage_is_asked_for_acts_on_it(seed: int) -> None:
    space = random_space(seed, most=MOST)
    for path in paths(space):
        for name, _ in path.picks:
            if name.startswith("stages["):
                where, key = name.split(".")
                assert acts(path, int(where[7:-1]), key), (name, path.picks)


def test_a_3x3_kernel_has_no_dilations_and_no_placement() -> None:
    space = space_of(
        "{depth: 2, width: 8, kernel: 3, placement: {choice: [L, LS]},"
        " dilations: {choice: [none, paper]}}"
    )
    assert asked_for(space) == set()


def test_a_drawn_3x3_kernel_ends_the_questions_of_its_stage() -> None:
    space = space_of(
        "{depth: 2, width: 8, kernel: {choice: [3, 7]}, placement: {choice: [L, LS]},"
        " dilations: {choice: [none, paper]}}"
    )
    small = [p for p in paths(space) if ("stages[0].kernel", 3) in p.picks]
    assert [path.picks for path in small] == [[("stages[0].kernel", 3)]]


def test_placement_s_has_no_kernel() -> None:
    space = space_of("{depth: 1, width: 8, kernel: {choice: [7, 13]}, placement: {choice: [L, S]}}")
    small = [p for p in paths(space) if ("stages[0].placement", "S") in p.picks]
    assert [path.picks for path in small] == [[("stages[0].placement", "S")]]


def test_se_ratio_is_drawn_with_se_alone() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: 3, structure: {choice: [none, se]},"
        " se_ratio: {choice: [2, 4]}}"
    )
    assert [path.picks for path in paths(space)] == [
        [("stages[0].structure", "none")],
        [("stages[0].structure", "se"), ("stages[0].se_ratio", 2)],
        [("stages[0].structure", "se"), ("stages[0].se_ratio", 4)],
    ]


def test_a_choice_that_ends_at_one_value_is_not_asked_for() -> None:
    # One block is L under both words; on a map of 4 pixels 13 and 31 are 7.
    stage = "{depth: 1, width: 8, kernel: {choice: [13, 31]}, placement: {choice: [L, LS]}}"
    assert asked_for(space_of(stage, size=16)) == set()


def test_branches_that_do_not_fit_the_kernel_are_not_offered() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: {choice: [7, 13]},"
        " dilations: {choice: [none, paper, [[3, 5]]]}}",
        size=64,
    )
    names = {dict(path.picks)["stages[0].kernel"]: path.offered[-1] for path in paths(space)}
    assert names == {7: ("none", "paper"), 13: ("none", "paper", ((3, 5),))}


def test_a_shared_axis_is_asked_for_once_and_used_by_all() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: 3}, {depth: 1, width: 8, kernel: 3}",
        more="shared: {structure: {choice: [none, se]}}",
    )
    drawn = [[stage.structure for stage in p.network.stages] for p in paths(space) if p.network]
    assert drawn == [["none", "none"], ["se", "se"]]


def test_an_axis_of_every_stage_is_drawn_once_a_stage() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: 3}, {depth: 1, width: 8, kernel: 3}",
        more="every_stage: {structure: {choice: [none, se]}}",
    )
    assert asked_for(space) == {"stages[0].structure", "stages[1].structure"}
    assert space.count() == 4


def test_a_shared_word_of_branches_waits_for_the_stage_that_uses_it() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: {choice: [3, 7]}}, {depth: 1, width: 8, kernel: 3}",
        more="shared: {dilations: {choice: [none, paper]}}",
    )
    assert [path.picks for path in paths(space)] == [
        [("stages[0].kernel", 3)],
        [("stages[0].kernel", 7), ("shared.dilations", "none")],
        [("stages[0].kernel", 7), ("shared.dilations", "paper")],
    ]


def test_a_shared_placement_waits_for_a_stage_deep_enough_to_tell_it() -> None:
    # L and LS are one over a single block; a 3x3 in the second stage leaves them untold.
    space = space_of(
        "{depth: 1, width: 8, kernel: 7, dilations: {choice: [none, [[5, 1]]]}},"
        "{depth: 2, width: 8, kernel: {choice: [3, 7]}, dilations: none}",
        more="shared: {placement: {choice: [L, LS]}}",
    )
    asked = {p.picks[1]: {name for name, _ in p.picks[2:]} for p in paths(space)}
    assert asked == {
        ("stages[1].kernel", 3): set(),
        ("stages[1].kernel", 7): {"shared.placement"},
    }


def test_a_stage_may_have_its_own_key_beside_a_shared_one() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: 7}, {depth: 1, width: 8, kernel: 3, structure: se}",
        more="shared: {structure: {choice: [none, bottleneck]}}",
    )
    drawn = [[s.structure for s in p.network.stages] for p in paths(space) if p.network]
    assert drawn == [["none", "se"], ["bottleneck", "se"]]


def test_the_block_decides_which_keys_are_asked_for() -> None:
    space = parse_space("""
        input: {channels: 1, size: 32}
        block: {choice: [unireplknet, convnext, slak]}
        weights_sparsity: {choice: [0, 0.4]}
        stages: [{depth: 1, width: 8, kernel: 7, strip: {choice: [none, 5]},
                  dilations: {choice: [none, paper]}}]
        """)
    assert {tuple(name for name, _ in path.picks) for path in paths(space)} == {
        ("block",),
        ("block", "stages[0].dilations"),
        ("block", "weights_sparsity", "stages[0].strip"),
    }


def test_stem_and_head_may_be_axes() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: 3}",
        more="stem: {kind: {choice: [unireplknet, patchify]}, stride: {choice: [1, 2, 4]}}\n"
        "head: {choice: [pool_norm, norm_pool]}",
    )
    assert space.count() == 12
    assert asked_for(space) == {"stem.kind", "stem.stride", "head"}


def test_the_map_of_a_drawn_stem_crops_the_kernels() -> None:
    space = space_of(
        "{depth: 1, width: 8, kernel: {choice: [3, 7, 13]}, dilations: none}",
        size=8,
        more="stem: {stride: {choice: [1, 4]}}",
    )
    # Stride 1: maps of 8, all three; stride 4: maps of 2, a 3x3 alone.
    assert sorted((a.stem.stride, a.stages[0].kernel) for a in space.census.all()) == [
        (1, 3),
        (1, 7),
        (1, 13),
        (4, 3),
    ]


def test_suggest_gives_optuna_text_for_branches_and_ranges_for_integers() -> None:
    recorder = Recorder(-1)
    parse_space(EXAMPLE).suggest(recorder)
    assert recorder.asked["stages[2].width"] == (64, 128, 16, False)
    assert recorder.asked["shared.ffn_ratio"] == [2, 4]
    assert recorder.asked["stages[1].dilations"] == ["none", "paper", "[[3,2],[5,1]]"]


def test_a_narrowed_axis_carries_its_options_in_its_name() -> None:
    recorder = Recorder()
    space_of(
        "{depth: 1, width: 8, kernel: {int: [5, 13], step: 2}, dilations: none}", size=16
    ).suggest(recorder)
    # A map of 4 pixels: 7 is the most, and 13 makes it.
    assert recorder.asked == {"stages[0].kernel{5|13}": [5, 13]}


def test_ranges_of_floats_and_of_logarithms_are_asked_as_such() -> None:
    recorder = Recorder()
    network = space_of(
        "{depth: 1, width: {int: [8, 64], log: true}, kernel: 3, ffn_ratio: {float: [1, 4]},"
        " layer_scale: {float: [1e-6, 1], log: true}}"
    ).suggest(recorder)
    assert recorder.asked == {
        "stages[0].width": (8, 64, 1, True),
        "stages[0].ffn_ratio": (1.0, 4.0, False),
        "stages[0].layer_scale": (1e-6, 1.0, True),
    }
    assert network == network.canonical
    assert (network.stages[0].ffn_ratio, network.stages[0].layer_scale) == (1, 1e-6)


SAMPLERS: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "tpe": lambda: optuna.samplers.TPESampler(seed=0, n_startup_trials=10),
    "tpe-multivariate": lambda: optuna.samplers.TPESampler(
        seed=0, multivariate=True, n_startup_trials=10
    ),
    "tpe-group": lambda: optuna.samplers.TPESampler(
        seed=0, multivariate=True, group=True, n_startup_trials=10
    ),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=0, population_size=8),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optuna_studies_draw_members_with_every_sampler(name: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = parse_space(EXAMPLE + "\nhead: {choice: [pool_norm, norm_pool]}")
    study = optuna.create_study(sampler=SAMPLERS[name](), directions=["maximize", "minimize"])

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        network = space.suggest(trial)
        assert space.contains(network)
        return float(sum(stage.width for stage in network.stages)), float(network.depth)

    study.optimize(objective, n_trials=30)
    assert len(study.trials) == 30


@pytest.mark.parametrize("seed", range(60))
def test_one_name_never_has_two_distributions(seed: int) -> None:
    space, asked = random_space(seed, most=MOST), defaultdict[str, set[str]](set)
    for path in paths(space):
        recorder = _Told(path)
        space.suggest(recorder)
        for name, options in recorder.asked.items():
            asked[name].add(repr(options))
    assert all(len(options) == 1 for options in asked.values()), asked


class _Told(Recorder):
    """Suggests what a path picked."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.values = [value for _, value in path.picks]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = list(choices)
        return text_key(self.values[len(self.asked) - 1])

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        self.asked[name] = (low, high, step, log)
        return int(self.values[len(self.asked) - 1])


def test_a_space_without_input_says_how_to_give_one() -> None:
    space = load_space("tiny")
    with pytest.raises(SpaceError, match=r"^tiny\.yaml: input: must be known to draw a network"):
        space.suggest(Recorder())
    with pytest.raises(SpaceError, match=r"^tiny\.yaml: input: must be known"):
        space.count()


def test_the_input_of_the_yaml_goes_before_that_of_the_data() -> None:
    space = parse_space(EXAMPLE).bound(size=(28, 28), channels=1)
    assert (space.size, space.channels) == ((32, 32), 3)
    space = load_space("tiny").bound(size=(28, 20), channels=1)
    assert (space.size, space.channels) == ((28, 20), 1)


@pytest.mark.parametrize(
    ("block", "stride", "stages", "side", "least"),
    [
        ("convnext", 4, 4, 31, 32),
        ("slak", 2, 2, 3, 4),
        ("convnext", 4, 1, 3, 4),
    ],
)
def test_images_too_small_for_the_stages_are_refused(
    block: str, stride: int, stages: int, side: int, least: int
) -> None:
    rows = ", ".join(["{depth: 1, width: 8, kernel: 3}"] * stages)
    space = parse_space(f"block: {block}\nstem: {{stride: {stride}}}\nstages: [{rows}]")
    message = rf"^space\.yaml:3: stages: images must be at least {least} pixels .* for stem stride"
    with pytest.raises(SpaceError, match=message + rf".*got {side}x{side}"):
        space.bound(size=(side, side), channels=3)
    assert space.bound(size=(least, least), channels=3).count() == 1


def test_a_space_knows_where_the_yaml_says_what() -> None:
    space = parse_space(
        "input: {channels: 3, size: 32}\nblock: slak\nstem:\n  kind: patchify\n"
        "stages:\n  - {depth: 1, width: 8, kernel: 3}"
    )
    assert space.place("block") == "space.yaml:2: block"
    assert space.place("stem.kind") == "space.yaml:4: stem.kind"
    assert space.place("input.size") == "space.yaml:1: input.size"
    assert space.place("stages") == "space.yaml:6: stages"
    assert space.place("head") == "space.yaml:1: head"


def test_families_that_round_up_take_images_of_one_pixel() -> None:
    space = space_of("{depth: 1, width: 8, kernel: 7}", size=1)
    (network,) = space.census.all()
    assert network.stages[0].kernel == 3


def test_open_axes_are_named_by_their_path() -> None:
    assert {name: axis.label() for name, axis in parse_space(EXAMPLE).axes().items()} == {
        "shared.structure": "{choice: [none, se, bottleneck]}",
        "shared.ffn_ratio": "{choice: [2, 4]}",
        "stages[0].dilations": "{choice: [none, paper, [[3,2],[5,1]]]}",
        "stages[1].kernel": "{choice: [3, 7, 9, 13]}",
        "stages[1].dilations": "{choice: [none, paper, [[3,2],[5,1]]]}",
        "stages[2].depth": "{choice: [2, 4, 6]}",
        "stages[2].width": "{int: [64, 128], step: 16}",
        "stages[2].kernel": "{choice: [3, 7, 9, 13]}",
        "stages[2].placement": "{choice: [L, LS, LSS, S]}",
        "stages[2].dilations": "{choice: [none, paper, [[3,2],[5,1]]]}",
    }


def test_the_example_of_the_contract_has_as_many_networks_as_by_hand() -> None:
    # Maps of 16, 8 and 4. Stage 1: S, or K = 7 (none, paper; (5,1),(3,2)), 9, 13 likewise: 1 + 9.
    # Stage 2: K is 3 or 7. Depth 2: S; LL, LS with 3 branch sets each (LSS is LS there): 1 + 6.
    # Depths 4 and 6: S, or L, LS, LSS with 3 sets: 1 + 9. Widths 5, structures 3, ratios 2.
    assert parse_space(EXAMPLE).count() == 10 * (7 + 10 + 10) * 5 * 3 * 2


def test_a_space_survives_pickle_and_copy() -> None:
    space = parse_space(EXAMPLE)
    assert space.count() == 8100
    for other in (pickle.loads(pickle.dumps(space)), copy.deepcopy(space)):
        assert other == space
        assert other.count() == 8100


@pytest.mark.parametrize(
    ("low", "high", "value", "met"),
    [
        (1, 2, 1, True),
        (1, 2, 2, True),
        (1, 2, 2.01, False),
        (None, 2, -5, True),
        (1, None, 0, False),
    ],
)
def test_constraints_are_closed_intervals(
    low: float | None, high: float | None, value: float, *, met: bool
) -> None:
    constraint = Constraint(name="params", low=low, high=high, where="a.yaml:1: constraints.params")
    assert constraint.met_by(value) is met


ONE_STAGE = "stages: [{depth: 1, width: 8, kernel: 3}]\n"


@pytest.mark.parametrize("block", ["unireplknet", "{choice: [replknet, convnext]}"])
def test_a_space_for_segmentation_has_the_dense_head_and_reads_back(block: str) -> None:
    plain = space_of("{depth: {choice: [1, 2]}, width: 8, kernel: 3}", more=f"block: {block}")
    space = plain.for_task("segmentation")
    assert {network.head for network in space.census.all()} == {"dense"}
    assert {network.task for network in space.census.all()} == {"segmentation"}
    assert space.count() == plain.count()
    assert plain.for_task("classification") is plain
    assert "head" not in plain.document
    again = parse_space(yaml.safe_dump(dict(space.document)))
    assert [network.id for network in again.census.all()] == [a.id for a in space.census.all()]
    assert again.for_task("segmentation") is again


@pytest.mark.parametrize(
    ("head", "task", "said"),
    [
        ("pool_norm", "segmentation", "dense for segmentation, which labels every pixel, got pool"),
        (
            "{choice: [dense, pool_norm]}",
            "segmentation",
            "dense for segmentation, which labels every pixel, got {choice: [dense, pool_norm]}; "
            "remove it or write 'head: dense'",
        ),
        (
            "dense",
            "classification",
            "pool_norm or norm_pool for classification, got dense; remove it or use "
            "'--task segmentation'",
        ),
        (
            "{choice: [norm_pool, dense]}",
            "classification",
            "pool_norm or norm_pool for classification, got {choice: [norm_pool, dense]}; remove",
        ),
    ],
)
def test_a_head_of_another_task_is_refused_with_its_line(head: str, task: str, said: str) -> None:
    space = parse_space(f"{ONE_STAGE}head: {head}")
    with pytest.raises(SpaceError) as error:
        space.for_task(task)
    assert str(error.value).startswith(f"space.yaml:2: head: must be {said}")


def test_the_space_of_a_task_without_dense_head_is_refused_by_its_first_line() -> None:
    space = parse_space(ONE_STAGE).for_task("segmentation")
    with pytest.raises(SpaceError, match=r"^space.yaml:1: head: must be pool_norm or norm_pool"):
        space.for_task("classification")
    with pytest.raises(SpaceError, match=r"^task: must be one of: classification, segmentation, "):
        space.for_task("detection")
