"""What the budget of a run is spent on, in this order: warm start, study, search, confirmation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from runs.anchors import Follower
from runs.blocks import METRICS, chance_level
from runs.confirmation import confirmed, next_confirm
from runs.history import SPENDING, History, Trial
from runs.plan import Plan, Settings
from runs.proposals import Proposal, Proposer
from runs.rungs import Ladder, step_fields
from runs.study import Study, Waiting
from search_space.architecture import Architecture
from search_space.errors import RunError

NOISE = 10
"""Trainings of the noise floor: two networks, five seeds each."""
BLOCK = 8
"""Trainings of a block of four factors."""
EVIDENCE_PERCENT, CONFIRM_PERCENT = 48, 10
"""Parts of the budget that blocks and confirmation get by default: 96 and 20 of 200."""
LEAST_EVIDENCE, LEAST_CONFIRM = 100, 60
"""Budgets from which they get them; below a study would decide nothing."""
STUDY_CONFIRM_PERCENT = 15
"""Part of the budget that confirms in a study alone: 30 of 200, beside 10 and 20 blocks."""

Leaders = Callable[[History], Sequence[str]]
"""Ids of networks by their probability of being the best, the most probable first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Trainings of a budget that are not the search's."""

    noise: int
    evidence: int
    confirm: int


def search_shares(budget: int, *, evidence: int | None, confirm: int | None) -> Parts:
    """Give what a search spends beside its own trainings; None takes the default.

    Raises:
        RunError: together they are more than the budget, or nothing is left to confirm.
    """
    if evidence is None:
        blocks = EVIDENCE_PERCENT * budget // 100 // BLOCK if budget >= LEAST_EVIDENCE else 0
        evidence = BLOCK * blocks
    if confirm is None:
        confirm = CONFIRM_PERCENT * budget // 100 if budget >= LEAST_CONFIRM else 0
    if confirm == budget:
        raise RunError(
            f"--confirm: must leave trainings whose leaders it confirms, got {confirm} of a "
            f"budget of {budget}; lower it, or raise --budget"
        )
    noise = NOISE if evidence >= 4 * NOISE else 0
    if noise + evidence + confirm > budget:
        floor = f" + {noise} for the noise floor" if noise else ""
        raise RunError(
            f"--evidence, --confirm: must fit into the budget of {budget} together, got {evidence} "
            f"+ {confirm}{floor}; lower one of them, or raise --budget"
        )
    return Parts(noise=noise, evidence=evidence, confirm=confirm)


def study_shares(budget: int, *, evidence: int | None, confirm: int | None) -> Parts:
    """Give what a study alone spends: noise floor, blocks, and by default the rest to confirm.

    Raises:
        RunError: they do not fit into the budget, or there is no block.
    """
    noise = NOISE if budget >= 5 * NOISE else 0
    if evidence is None:
        held = STUDY_CONFIRM_PERCENT * budget // 100 if confirm is None else confirm
        evidence = BLOCK * max(0, (budget - noise - held) // BLOCK)
    rest = budget - noise - evidence
    confirm = rest if confirm is None else confirm
    floor = f" + {noise} for the noise floor" if noise else ""
    if confirm > rest or rest < 0:
        raise RunError(
            f"--evidence, --confirm: must fit into the budget of {budget} together, got {evidence} "
            f"+ {max(confirm, 0)}{floor}; lower one of them, or raise --budget"
        )
    if evidence < BLOCK:
        raise RunError(
            f"--evidence: must hold a block of {BLOCK} trainings at least, got {evidence} of a "
            f"budget of {budget}{floor}; raise it or --budget"
        )
    return Parts(noise=noise, evidence=evidence, confirm=confirm)


def own_part(settings: Settings) -> int:
    """Give the trainings that are left to a search beside study and confirmation."""
    if settings.study_alone:
        return 0
    return settings.budget - settings.noise - settings.evidence - settings.confirm


class Schedule:
    """Says which training comes next."""

    def __init__(
        self,
        plan: Plan,
        proposer: Proposer,
        study: Study | None,
        leaders: Leaders,
        *,
        exhausted: bool = False,
    ) -> None:
        """Prepare; `leaders` is asked with the history before a confirmation.

        `exhausted`: an earlier session found that the space has no network left.
        """
        self.plan = plan
        self.proposer = proposer
        self.study = study
        self.leaders = leaders
        self.ladder = Ladder(plan.settings)
        self.chance = chance_level(plan)
        self.exhausted = exhausted
        """Whether the space had no network left."""
        self._chosen: Sequence[str] | None = None

    def propose(self, number: int, history: History) -> Proposal | Waiting | None:
        """Give the training of trial `number`; None where nothing is left to do.

        "wait": what comes next depends on trainings that still run.
        """
        return (
            self._warm_start(history)
            or self._of_study(history)
            or self._of_search(number, history)
            or self._confirm(history)
        )

    def _warm_start(self, history: History) -> Proposal | None:
        """Give the next network of the warm start, which is paid from the search's own part."""
        begun = [t for t in history.of_role.get("anchor", ()) if "noise" not in t.asked]
        # Of the budget the trainings of the study, which come later, are left too.
        own = own_part(self.plan.settings) - _taken(begun)
        if not self.ladder.begins(history, min(own, self._search_left(history))):
            return None
        return self._begun(self.proposer.propose_first(history))

    def _of_search(self, number: int, history: History) -> Proposal | Waiting | None:
        """Give the next training of the search: a stopped one goes on, or a network is new.

        Shares are multiples of what a new network takes, so that the budget is met exactly. Where
        no new network may begin, as none is left or the rest is kept for one of full length, more
        of the stopped ones go on.
        """
        left = self._search_left(history)
        if left <= 0:
            return None
        if (stopped := self.ladder.propose(history, left)) is not None:
            return self._continued(stopped)
        if not self.exhausted and self.ladder.begins(history, left):
            proposal = self.proposer.propose(number, history)
            if proposal is not None:
                return self._begun(proposal)
            self.exhausted = True
        if (stopped := self.ladder.propose(history, left, beyond=True)) is not None:
            return self._continued(stopped)
        return "wait" if any(t.rung is not None for t in history.pending) else None

    def _begun(self, proposal: Proposal | None) -> Proposal | None:
        """Have a network's training begin at the lowest rung, where there are rungs."""
        if proposal is None:
            return None
        return replace(proposal, more={**proposal.more, **step_fields(self.ladder.lengths, 0)})

    def _continued(self, stopped: Trial) -> Proposal:
        """Have a stopped training go on to the next rung; its network was told to the sampler."""
        assert stopped.rung is not None
        rung = step_fields(self.ladder.lengths, stopped.rung + 1, stopped.number)
        repeat = {"repeat": stopped.repeat} if stopped.repeat else {}
        return Proposal(
            architecture=stopped.architecture,
            role=stopped.role,
            params={},
            distributions={},
            duplicates=0,
            rejected={},
            more={**rung, **repeat},
        )

    def _search_left(self, history: History) -> Fraction:
        """Give what is left of the budget before the confirmation begins."""
        settings = self.plan.settings
        if settings.study_alone:
            return Fraction(0)
        taken = history.spent + sum(trial.share for trial in history.pending)
        taken -= _taken(confirmed(history, settings.budget))
        return settings.budget - settings.confirm - taken

    def _of_study(self, history: History) -> Proposal | Waiting | None:
        if self.study is None:
            return None
        if (noise := self.study.next_noise(history)) is not None:
            arm, network = noise
            return self._fixed(history, network, "anchor", {"noise": arm})
        run = self.study.next_run(history, self.chance)
        if run is None or run == "wait":
            return run
        return self._fixed(history, run.architecture, "evidence", run.fields())

    def _confirm(self, history: History) -> Proposal | Waiting | None:
        target, trainings = self.plan.settings.budget, self.plan.settings.confirm
        if not trainings:
            return None
        confirming = {trial.number for trial in confirmed(history, target)}
        if any(trial.number not in confirming for trial in history.pending):
            return "wait"
        if self._chosen is None:
            # Those that a killed session chose stand.
            begun = [history.trials[number].id for number in sorted(confirming)]
            leaders = self.leaders(history.without(confirming))
            self._chosen = list(dict.fromkeys([*begun, *leaders]))
        found = next_confirm(
            history,
            self._chosen,
            trainings=trainings,
            target=target,
            metric=METRICS[self.plan.settings.task],
            chance=self.chance,
        )
        if found is None or found == "wait":
            return found
        network, part = found
        architecture = history.networks[network][0].architecture
        more = {"confirm": {"target": target, "part": part}}
        return self._fixed(history, architecture, "confirm", more)

    def _fixed(
        self, history: History, architecture: Architecture, role: str, more: dict[str, Any]
    ) -> Proposal:
        """Propose a network that no sampler drew, with what the sampler must know of it."""
        space = self.plan.space
        inside = space.contains(architecture)
        repeat = history.repeats(architecture.id)
        follower = Follower(space.answers(architecture) if inside and not repeat else {})
        if follower.answers:
            space.suggest(follower)
        return Proposal(
            architecture=architecture,
            role=role,
            params=follower.params,
            distributions=follower.distributions,
            duplicates=0,
            rejected={},
            more={**more, "repeat": repeat, "outside_space": not inside},
        )


def _taken(trials: Iterable[Trial]) -> Fraction:
    """Give what trials take of the budget: those that failed take nothing."""
    spending = (trial.share for trial in trials if trial.state in (*SPENDING, "asked"))
    return sum(spending, Fraction(0))
