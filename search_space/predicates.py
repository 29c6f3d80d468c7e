"""Questions about a network in the words of a space's YAML, such as `stages[2].kernel >= 9`.

They are read by Python's parser and then by a white list; nothing of them is ever run as Python.

    stages[2].kernel >= 9          one stage, counted from 0; stages[-1] is the last
    any(stages.kernel >= 13)       any or all of the stages; stages[1:] leaves the first out
    shared.structure == 'se'       in every stage, as all(stages.structure == 'se')
    depth > 8 and not block == 'slak'      depth alone is the number of blocks of the network
    max(stages.width) > 64         max, min and sum of numbers
    len(stages[1].dilations) > 2   number of branches; len(stages) of stages
    stages[1].dilations == 'paper'         or 'none', or branches such as [[5, 1], [3, 2]]
    shared.structure in ['se', 'bottleneck']
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from search_space.architecture import Architecture
from search_space.errors import SpaceError, nearest, shown
from search_space.predicate_terms import (
    ABSENT,
    NETWORK_KEYS,
    STAGE_KEYS,
    SUMMARIES,
    Constant,
    Term,
    applied,
    combined,
    mapped,
    summary,
)

LONGEST = 300
"""Characters of a question; what nests deeper than the parser likes does not fit in."""

MOST_STAGES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicate:
    """A yes-or-no question about a network: `predicate(architecture)`.

    A comparison with a stage that a network lacks is false.
    """

    text: str
    """As it was written."""
    holds: Callable[[Architecture], bool] = field(repr=False, compare=False)

    def __call__(self, architecture: Architecture) -> bool:
        """Whether the network meets it."""
        return self.holds(architecture)


_IN_EVERY_STAGE = ("shared", "every_stage")
_ROOTS = ("stages", *_IN_EVERY_STAGE, *NETWORK_KEYS)

_ORDERS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
_FUNCTIONS = ("any", "all", *SUMMARIES, "len")


def parse_predicate(text: str, *, stages: int | None = None, where: str = "--compare") -> Predicate:
    """Read a question about a network; see the module for what may be asked.

    Args:
        text: the question.
        stages: how many stages every network has that will be asked; None where that is open.
        where: who asks, for the error.

    Raises:
        SpaceError: it cannot be read, or asks what no network has.
    """
    reader = _Reader(text=text, stages=stages, where=where)
    try:
        return reader.predicate()
    except (RecursionError, MemoryError):
        raise reader.wrong("must be simpler: it nests too deep") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reader:
    text: str
    stages: int | None
    where: str

    def wrong(self, why: str) -> SpaceError:
        return SpaceError(f"{self.where}: {shown(self.text)}: {why}")

    def predicate(self) -> Predicate:
        found = self._truth(self._tree())
        if found.row:
            raise self.wrong("must say of which stages: any(...) or all(...)")
        return Predicate(text=self.text, holds=lambda a: bool(found.read(a)))

    def _tree(self) -> ast.expr:
        if len(self.text) > LONGEST:
            raise self.wrong(f"must have at most {LONGEST} characters, got {len(self.text):,}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text.strip(), mode="eval").body
        except SyntaxError as error:
            hint = "; write == for equal" if "=" in self.text and "==" not in self.text else ""
            at = f" (at character {error.offset})" if error.offset else ""
            why = f"must be a comparison such as stages[1].kernel >= 9{at}{hint}"
            raise self.wrong(why) from None
        except ValueError:  # null bytes, lone surrogates
            raise self.wrong("must be a comparison such as stages[1].kernel >= 9") from None

    def _truth(self, node: ast.expr) -> Term:
        """Read what is true or false, of a network or of each of its stages."""
        if isinstance(node, ast.BoolOp):
            terms = [self._truth(value) for value in node.values]
            return combined(terms, any if isinstance(node.op, ast.Or) else all)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return combined([self._truth(node.operand)], lambda row: not row[0])
        if isinstance(node, ast.Compare):
            return self._comparison(node)
        found = self._operand(node)
        if isinstance(found, Constant) or found.kind != "truth":
            written = shown(_written(node))
            raise self.wrong(
                f"{written}: must be compared with something, as in stages[1].kernel >= 9"
            )
        return found

    def _comparison(self, node: ast.Compare) -> Term:
        operands = [self._operand(side) for side in (node.left, *node.comparators)]
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        return combined([self._pair(left, op, right) for left, op, right in pairs], all)

    def _pair(self, left: Term | Constant, op: ast.cmpop, right: Term | Constant) -> Term:
        """Compare two sides; the result is a row where one side is, and not shared any more."""
        if isinstance(left, Constant):
            if isinstance(right, Constant) or type(op) not in _MIRRORED:
                raise self.wrong(
                    "must compare something of the network, as in stages[1].kernel >= 9"
                )
            left, op, right = right, _MIRRORED[type(op)](), left
        if isinstance(right, Constant):
            test = self._test(left, op, right.value)
            return applied(lambda values: test(values[0]), [left])
        if left.kind != right.kind or "truth" in (left.kind, right.kind):
            raise self.wrong(f"must compare like with like, got {left.kind} and {right.kind}")
        compare = self._order(left, op)
        return applied(lambda values: compare(*values), [left, right])

    def _order(self, term: Term, op: ast.cmpop) -> Callable[[Any, Any], bool]:
        if isinstance(op, ast.Eq | ast.NotEq):
            return operator.eq if isinstance(op, ast.Eq) else operator.ne
        if type(op) not in _ORDERS:
            raise self.wrong("must use one of: <, <=, ==, !=, >=, >, in [...], not in [...]")
        if term.kind != "number":
            raise self.wrong(f"must compare a {term.kind} by == or != or in, which has no order")
        order = _ORDERS[type(op)]
        # A key that is `none` has no size: it is neither above nor below anything.
        return lambda a, b: a is not None and b is not None and order(a, b)

    def _test(self, term: Term, op: ast.cmpop, given: Any) -> Callable[[Any], bool]:
        """Give the test of a value against what stands in the question."""
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(given, tuple):
                raise self.wrong(
                    f"must have a list after `in`, as in ['se', 'none'], got {given!r}"
                )
            tests = [self._equal(term, one) for one in given]
            wanted = isinstance(op, ast.In)
            return lambda value: any(test(value) for test in tests) == wanted
        if isinstance(op, ast.Eq | ast.NotEq):
            equal, expected = self._equal(term, given), isinstance(op, ast.Eq)
            return lambda value: equal(value) == expected
        order = self._order(term, op)
        if not isinstance(given, int | float):
            raise self.wrong(f"must compare a number with a number, got {shown(given)}")
        return lambda value: order(value, given)

    def _equal(self, term: Term, given: Any) -> Callable[[Any], bool]:
        if term.kind == "number":
            if isinstance(given, int | float):
                return lambda value: bool(value == given)
            if given == "none":
                return lambda value: value is None
            raise self.wrong(f"must compare a number with a number, got {shown(given)}")
        if term.kind == "text":
            if not isinstance(given, str) or given not in term.words:
                raise self.wrong(f"unknown value {shown(given)}; {nearest(str(given), term.words)}")
            return lambda value: bool(value == given)
        if term.kind == "placement":
            if not isinstance(given, str) or not given or set(given) - set("LS"):
                raise self.wrong(
                    f"must compare a placement with letters L and S, got {shown(given)}"
                )
            # The letters repeat over the depth of the stage, as in the YAML.
            return lambda value: bool(value == (given * len(value))[: len(value)])
        if term.kind == "branches":
            return self._equal_branches(given)
        raise self.wrong("must not compare what is already true or false")

    def _equal_branches(self, given: Any) -> Callable[[Any], bool]:
        if given == "paper":
            return lambda value: bool(value[1])
        if given == "none":
            return lambda value: not value[0]
        if not isinstance(given, tuple) or not all(
            isinstance(pair, tuple) and len(pair) == 2 and all(type(n) is int for n in pair)
            for pair in given
        ):
            raise self.wrong(
                f"must compare dilations with 'none', 'paper' or [[k, r], ...], got {shown(given)}"
            )
        pairs = tuple(sorted(given))
        return lambda value: bool(value[0] == pairs)

    def _operand(self, node: ast.expr) -> Term | Constant:
        """Read a side of a comparison: a constant, a name of the YAML, a function of one."""
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Compare | ast.BoolOp):
            return self._truth(node)
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            return self._name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._truth(node)
        return Constant(self._constant(node))

    def _constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.List | ast.Tuple):
            return tuple(self._constant(one) for one in node.elts)
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            sign, node = -1 if isinstance(node.op, ast.USub) else 1, node.operand
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and sign == 1:
            return value
        if type(value) is int or (type(value) is float and math.isfinite(value)):
            return sign * value
        raise self.wrong(
            f"{shown(_written(node))}: must be a name, a number, a text or a list of such"
        )

    def _call(self, node: ast.Call) -> Term:
        name = node.func.id if isinstance(node.func, ast.Name) else _written(node.func)
        if name not in _FUNCTIONS:
            raise self.wrong(f"unknown function {shown(name)}; {nearest(name, _FUNCTIONS)}")
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            raise self.wrong(
                f"{name}: must have one thing in its brackets, as in {name}(stages.kernel)"
            )
        if name == "len":
            return self._length(node.args[0])
        if name in ("any", "all"):
            rows = self._truth(node.args[0])
            if not rows.row:
                raise self.wrong(
                    f"{name}: must hold a question about stages, as in stages.kernel >= 9"
                )
            reduce = any if name == "any" else all
            return Term(kind="truth", read=lambda a: reduce(rows.read(a)))
        row = self._operand(node.args[0])
        if isinstance(row, Constant) or not row.row or row.kind != "number":
            raise self.wrong(f"{name}: must hold numbers of stages, as in {name}(stages.kernel)")
        return Term(kind="number", read=lambda a: summary(SUMMARIES[name], row.read(a)))

    def _length(self, node: ast.expr) -> Term:
        if isinstance(node, ast.Name) and node.id == "stages":
            return Term(kind="number", read=lambda a: len(a.stages))
        found = self._operand(node)
        if isinstance(found, Constant) or found.kind not in ("branches", "placement"):
            raise self.wrong("len: must hold stages, or the dilations of a stage")
        size = (lambda value: len(value[0])) if found.kind == "branches" else len
        return Term(
            kind="number",
            row=found.row,
            shared=found.shared,
            read=lambda a: mapped(size, found.read(a), row=found.row),
        )

    def _name(self, node: ast.expr) -> Term:
        """Read `stages[i].key`, `stages.key`, `shared.key`, or a key of the network."""
        if isinstance(node, ast.Attribute):
            owner, key = node.value, node.attr
            if isinstance(owner, ast.Subscript) and _is_stages(owner.value):
                return self._of_stages(key, owner.slice)
            if _is_stages(owner):
                return self._of_stages(key, None)
            if isinstance(owner, ast.Name) and owner.id in _IN_EVERY_STAGE:
                return self._of_stages(key, None, shared=True)
        name = _written(node)
        if name in NETWORK_KEYS:
            row = NETWORK_KEYS[name]
            return Term(kind=row.kind, words=row.words, read=row.read)
        if name in STAGE_KEYS:
            raise self.wrong(
                f"{name!r} is a key of a stage: write stages[0].{name}, any(stages.{name} ...), "
                f"or shared.{name} for every stage"
            )
        words = {
            word for row in (*NETWORK_KEYS.values(), *STAGE_KEYS.values()) for word in row.words
        }
        if name in words | {"paper", "L", "S"}:
            raise self.wrong(f"must have a text in quotes: {name!r}")
        if name == "stages" or (isinstance(node, ast.Subscript) and _is_stages(node.value)):
            raise self.wrong(f"{name}: must name a key, as in {name}.kernel")
        root = name if name.startswith("stem.") else re.split(r"\W", name, maxsplit=1)[0]
        raise self.wrong(f"unknown name {shown(name)}; {nearest(root, _ROOTS)}")

    def _of_stages(self, key: str, index: ast.expr | None, *, shared: bool = False) -> Term:
        if key not in STAGE_KEYS:
            raise self.wrong(f"unknown key {shown(key)} of a stage; {nearest(key, STAGE_KEYS)}")
        row = STAGE_KEYS[key]
        if index is None or isinstance(index, ast.Slice):
            part = slice(None) if index is None else self._slice(index)
            return Term(
                kind=row.kind,
                words=row.words,
                row=True,
                shared=shared,
                read=lambda a: [row.read(stage) for stage in a.stages[part]],
            )
        place = self._place(index)

        def read(architecture: Architecture) -> Any:
            if not -len(architecture.stages) <= place < len(architecture.stages):
                return ABSENT
            return row.read(architecture.stages[place])

        return Term(kind=row.kind, words=row.words, read=read)

    def _slice(self, index: ast.Slice) -> slice:
        if index.step is not None:
            raise self.wrong("must name stages as in stages[1:], without a step")
        ends = [None if end is None else self._integer(end) for end in (index.lower, index.upper)]
        return slice(*ends)

    def _place(self, node: ast.expr) -> int:
        place = self._integer(node)
        count = MOST_STAGES if self.stages is None else self.stages
        if not -count <= place < count:
            have = "a network has at most" if self.stages is None else "the networks have"
            raise self.wrong(
                f"must name stages[0] to stages[{count - 1}], got stages[{place}]: "
                f"{have} {count} stage{'s' if count > 1 else ''}, counted from 0; name one of them"
            )
        return place

    def _integer(self, node: ast.expr) -> int:
        value = self._constant(node)
        if type(value) is not int:
            raise self.wrong(
                f"must have a whole number in the brackets of stages, got {shown(value)}"
            )
        return value


def _is_stages(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "stages"


def _written(node: ast.expr) -> str:
    return ast.unparse(node)
