"""The guideline study of a run: planned before its first training, then carried out run by run.

Everything that could be chosen after a look at results is chosen here before: hypotheses, margins,
the rule of stopping, contexts, seeds and order stand in run.yaml with a hash of them all.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from evaluators.contexts import Context, draw_contexts, factors, members, sanity_pair
from evaluators.evidence import GUIDELINES, Protocol, block_levels, decided
from runs.blocks import METRICS, block_results
from runs.history import History
from runs.measures import measure_with, model_of
from runs.plan import Plan
from search_space.acceptance import Measure
from search_space.architecture import Architecture
from search_space.errors import RunError, SpaceError
from search_space.space import DesignSpace

DENSE_ONLY = {"g3": "needs a dense task, with one head that reads every stage and one the last"}
"""Guidelines that classification cannot test, and why."""

HYPOTHESES = {
    "g1": "superiority, two-sided: an extra structure in every block against none",
    "g2": "superiority, two-sided: parallel dilated branches in every large block against none",
    "g3": "difference of differences, two-sided: what a 3x3 in stage 1 gains by the head that "
    "reads every stage, over what it gains by the head that reads the last alone",
    "g4": "non-inferiority within the margin, and lower measured latency: 3x3 in the blocks beyond "
    "the first of the later stages against large kernels, at the same depth",
}
"""What is tested, as run.yaml keeps it."""

ARMS = ("large", "small")
"""The two networks of the noise floor: with large kernels, and their twin without any."""

Waiting = Literal["wait"]
"""What is asked for next depends on a training that still runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training of a block."""

    block: int
    member: int
    architecture: Architecture
    levels: tuple[int, ...]
    varied: tuple[bool, ...]

    def fields(self) -> dict[str, Any]:
        """Give what the `asked` event keeps of it."""
        return {
            "study": {
                "block": self.block,
                "member": self.member,
                "levels": list(self.levels),
                "varied": list(self.varied),
            }
        }


@dataclass(frozen=True, kw_only=True)
class Study:
    """A planned study on its space."""

    protocol: Protocol
    contexts: tuple[Context, ...]
    """One a block."""
    pair: tuple[Architecture, ...]
    """The networks of the noise floor in the order of `ARMS`; empty where there is none."""
    noise: int
    """Trainings of the noise floor."""
    varied: tuple[bool, ...]
    """The factors that the space has, in the order of the guidelines."""
    seed: int
    space: DesignSpace
    measure: Measure

    def next_noise(self, history: History) -> tuple[str, Architecture] | None:
        """Give the next training of the noise floor, an arm and its network; None after the last.

        The arms take turns, so that a run which ends early has as many of each.
        """
        done = sum("noise" in trial.asked for trial in history.of_role.get("anchor", ()))
        if not self.pair or done >= self.noise:
            return None
        return ARMS[done % 2], self.pair[done % 2]

    def next_run(self, history: History, chance: Mapping[str, float]) -> Run | Waiting | None:
        """Give the next training of a block; None where the study has come to its end.

        Under a sequential rule the blocks after a look wait for those before it, and the study ends
        where every guideline that can be tested is decided.
        """
        for number, blocks in enumerate(self.batches):
            varied = self._varied_in(number, blocks, history, chance)
            if varied is None:
                return "wait"
            if not self._tests_any(varied):
                return None
            runs = self._left(blocks, varied)
            while runs and runs[0].member in history.blocks.get(runs[0].block, ()):
                runs.popleft()
            if runs:
                return runs[0]
        return None

    def _varied_in(
        self, number: int, blocks: range, history: History, chance: Mapping[str, float]
    ) -> tuple[bool, ...] | None:
        """Give the factors that a batch of blocks varies; None where they are not known yet."""
        begun = (t.study for block in blocks for t in history.blocks.get(block, {}).values())
        if (first := next(begun, None)) is not None:
            # What a look decided stands, whatever is measured again later.
            return tuple(first["varied"])
        if number and any(t.study and t.study["block"] < blocks[0] for t in history.pending):
            return None
        if number not in self._looks:
            self._looks[number] = self._varied(history, chance, before=blocks[0])
        return self._looks[number]

    @cached_property
    def _looks(self) -> dict[int, tuple[bool, ...]]:
        """What the look before a batch left open."""
        return {}

    @cached_property
    def batches(self) -> list[range]:
        """Blocks between two looks; all of them where the rule looks once."""
        ends = [look for look in self.protocol.looks() if look < self.protocol.blocks]
        if self.protocol.rule == "fixed":
            ends = []
        edges = [0, *ends, self.protocol.blocks]
        return [range(a, b) for a, b in pairwise(edges) if b > a]

    def _varied(
        self, history: History, chance: Mapping[str, float], before: int
    ) -> tuple[bool, ...]:
        """Give the factors that are still open at the look before a block."""
        results = block_results(history, self.protocol.metric, chance)
        out = decided(self.protocol, [result for result in results if result.block < before])
        return tuple(
            has and name not in out for has, name in zip(self.varied, GUIDELINES, strict=True)
        )

    def _tests_any(self, varied: tuple[bool, ...]) -> bool:
        named = zip(varied, GUIDELINES, strict=True)
        return any(varies and name not in self.protocol.missing for varies, name in named)

    def _left(self, blocks: range, varied: tuple[bool, ...]) -> deque[Run]:
        """Give the trainings of some blocks in their random order, less those known as asked."""
        if (blocks, varied) not in self._known:
            runs = [run for block in blocks for run in self._block(block, varied)]
            order = np.random.default_rng((self.seed, 1, blocks[0])).permutation(len(runs))
            self._known[blocks, varied] = deque(runs[i] for i in order)
        return self._known[blocks, varied]

    @cached_property
    def _known(self) -> dict[tuple[range, tuple[bool, ...]], deque[Run]]:
        return {}

    def _block(self, block: int, varied: tuple[bool, ...]) -> list[Run]:
        levels = block_levels(varied, block, np.random.default_rng((self.seed, 2, block)))
        networks = members(self.contexts[block], levels, self.space, measure=self.measure)
        return [
            Run(
                block=block,
                member=member,
                architecture=network,
                levels=tuple(int(level) for level in row),
                varied=varied,
            )
            for member, (network, row) in enumerate(zip(networks, levels, strict=True))
        ]


def with_study(plan: Plan) -> Plan:
    """Plan the study that the settings ask for; the plan is the same where they ask for none.

    A space with one context gets no block, one without a pair of networks no noise floor.
    """
    settings = plan.settings
    if not (settings.noise or settings.evidence):
        return plan
    metric = METRICS[settings.task]
    measure = measure_with(plan.num_classes, model_of(plan))
    space, rng = plan.space, np.random.default_rng((settings.seed, 0))
    found = factors(space)
    varied = tuple(factor.missing is None for factor in found)
    size = len(block_levels(varied, 0, np.random.default_rng(0))) if any(varied) else 0
    wanted = settings.evidence // size if size else 0
    # Two at least, to know whether there is more than one.
    contexts = draw_contexts(space, max(2, wanted), measure=measure, rng=rng) if size else []
    blocks = min(wanted, len(contexts)) if len(contexts) > 1 else 0
    missing = {f.guideline: f.missing for f in found if f.missing is not None}
    if settings.task == "classification":
        missing |= DENSE_ONLY
    protocol = Protocol(
        task=settings.task,
        metric=metric,
        blocks=blocks,
        rule=settings.rule,  # type: ignore[arg-type]
        missing=missing,
        contexts=len(contexts),
    )
    pair = _pair(contexts[0], space, measure) if contexts and settings.noise else ()
    document: dict[str, Any] = {
        "protocol": protocol.document(),
        "hypotheses": HYPOTHESES,
        "levels": {f.guideline: {"against": f.low, "as it says": f.high} for f in found},
        "block": {"runs": size, "blocks": blocks, "wanted": wanted},
        "noise": settings.noise if pair else 0,
        "pair": [network.to_json() for network in pair],
        "seed": settings.seed,
        "contexts": [context.to_dict() for context in contexts[:blocks]],
    }
    return replace(plan, facts={**plan.facts, "study": document | {"sha256": hash_of(document)}})


def _pair(context: Context, space: DesignSpace, measure: Measure) -> tuple[Architecture, ...]:
    """Give the networks of the noise floor; none where the space has no such pair."""
    try:
        return sanity_pair(context, space, measure=measure)
    except SpaceError:
        return ()


def hash_of(document: Mapping[str, Any]) -> str:
    """Give the SHA-256 of what was fixed beforehand, without the hash itself."""
    plain = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def study_of(plan: Plan) -> Study | None:
    """Give the study that run.yaml holds.

    Raises:
        RunError: it was changed after it was planned.
    """
    document = plan.facts.get("study")
    if document is None:
        return None
    if hash_of(document) != document["sha256"]:
        raise RunError(
            "run.yaml: facts.study: must be as it was fixed before the first training, got another "
            "hash; put it back, or start a new run"
        )
    return Study(
        protocol=Protocol.from_document(document["protocol"]),
        contexts=tuple(Context.from_dict(one) for one in document["contexts"]),
        pair=tuple(Architecture.from_json(text) for text in document["pair"]),
        noise=document["noise"],
        varied=tuple(factor.missing is None for factor in factors(plan.space)),
        seed=document["seed"],
        space=plan.space,
        measure=measure_with(plan.num_classes, model_of(plan)),
    )
