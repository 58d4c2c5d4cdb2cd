"""Conditions that packs are written in: `sentiment < -0.3 and device in ("mobile", "tablet")`.

A condition is parsed once into a function of facts and never evaluated as code. The same function takes
one row (f,) and a matrix (n, f). A comparison with a missing fact is False, whatever the operator, so that `not`
of one is True; `missing(field)` asks for it by name. A time has `.hour` (0-24) and `.weekday` (0 is Monday).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nba.errors import ConditionError, shown
from nba.facts import TIME_PARTS, Field, finite_number
from nba.types import Facts

Condition: TypeAlias = Callable[[Facts], NDArray[np.bool_]]  # facts (..., f) to truth (...)
MAX_LENGTH = 500  # characters of one condition
ALWAYS = "always"

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: lambda x, y: (x != y) & (x == x),  # x != x only where it is missing
}


def parse(text: str, fields: Mapping[str, Field]) -> Condition:
    """The condition as a function of facts (..., f) to truth (...), columns in the order of `fields`.

    Raises ConditionError with the column of the text where it goes wrong.
    """
    text = text.strip().replace("\n", " ")  # YAML may fold a long one
    if text == ALWAYS:
        return lambda facts: np.ones(facts.shape[:-1], dtype=np.bool_)
    if len(text) > MAX_LENGTH:
        raise ConditionError(
            f"condition of {len(text)} characters", help=f"keep it to {MAX_LENGTH}; split it into two guardrails"
        )
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None) or len(text) + 1
        reason = error.args[0] if error.args else "nested too deeply"
        raise ConditionError(
            f"condition {text!r} does not parse at column {column}: {reason}",
            help='write comparisons (==, !=, <, in) joined by and, or, not: mood < -0.3 and device == "mobile"',
        ) from None
    return _Parser(text, fields).build(tree)


class _Parser:
    """Walks a parsed expression and allows only comparisons of fields with constants."""

    def __init__(self, text: str, fields: Mapping[str, Field]) -> None:
        self.text, self.fields = text, fields
        self.columns = {name: i for i, name in enumerate(fields)}

    def build(self, node: ast.expr) -> Condition:
        match node:
            case ast.BoolOp(op=op, values=values):
                return _join([self.build(value) for value in values], every=isinstance(op, ast.And))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.build(operand)
                return lambda facts: ~inner(facts)
            case ast.Compare():
                return self._compare(node)
            case ast.Call(func=ast.Name(id="missing"), args=[ast.Name(id=name)], keywords=[]):
                column = self._column(name, node)
                return lambda facts: np.isnan(facts[..., column])
            case ast.Name(id=name):
                column = self._column(name, node)
                if self.fields[name].type != "boolean":
                    raise self._error(f"{name!r} is not a boolean field", node, f"compare it: {name} == ...")
                return lambda facts: facts[..., column] == 1.0
        raise self._error("this is not allowed", node, "use comparisons, and, or, not, in, missing(field)")

    def _compare(self, node: ast.Compare) -> Condition:
        if len(node.ops) != 1:
            raise self._error("a chain of comparisons", node, "write one comparison each, joined by `and`")
        op, right = node.ops[0], node.comparators[0]
        read, code, ordered = self._left(node.left)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                raise self._error("`in` needs a list of values", node, 'write field in ("a", "b")')
            codes = [code(element) for element in right.elts]
            return _member(read, np.array(codes), wanted=isinstance(op, ast.In))
        compare = _COMPARE.get(type(op))
        if compare is None:
            raise self._error("unknown operator", node, "use <, <=, >, >=, ==, != or in")
        if not ordered and not isinstance(op, ast.Eq | ast.NotEq):
            raise self._error("this field has no order", node, "compare it with ==, != or in")
        constant = code(right)
        return lambda facts: compare(read(facts), constant)

    def _left(self, node: ast.expr) -> tuple[Callable[[Facts], Any], Callable[[ast.expr], float], bool]:
        """How to read the left side, how to code a constant it is compared with, and whether it has an order."""
        match node:
            case ast.Name(id=name):
                column, field = self._column(name, node), self.fields[name]
                ordered = field.type in ("number", "time")
                return (
                    lambda facts: facts[..., column],
                    lambda right: self._constant(name, field.code, field.describe(), right),
                    ordered,
                )
            case ast.Attribute(value=ast.Name(id=name), attr=part) if part in TIME_PARTS:
                column = self._column(name, node)
                if self.fields[name].type != "time":
                    raise self._error(f"{name!r} is not a time field", node, "only a time has .hour and .weekday")
                read_part = TIME_PARTS[part]
                return (
                    lambda facts: read_part(facts[..., column]),
                    lambda right: self._constant(f"{name}.{part}", finite_number, "a number", right),
                    True,
                )
        raise self._error("a comparison starts with a field", node, "write field < value, or time_field.hour < 8")

    def _column(self, name: str, node: ast.AST) -> int:
        if name not in self.columns:
            raise self._error(f"unknown field {name!r}", node, f"the moment's fields are {', '.join(self.columns)}")
        return self.columns[name]

    def _constant(self, name: str, code: Callable[[Any], float | None], described: str, node: ast.expr) -> float:
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            way_out = f"{name} is {described}; text stands in quotes, a truth is True or False"
            raise self._error(f"the right side of {name} is not a constant", node, way_out) from None
        coded = code(value)
        if coded is None or np.isnan(coded):
            raise self._error(f"{shown(value)} is not a value of {name}", node, f"{name} is {described}")
        return coded

    def _error(self, what: str, node: ast.AST, way_out: str) -> ConditionError:
        # Python counts columns in bytes of UTF-8, readers in characters.
        before = self.text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore")
        return ConditionError(f"{what} in condition {self.text!r} at column {len(before) + 1}", help=way_out)


def _join(parts: list[Condition], *, every: bool) -> Condition:
    combine = operator.and_ if every else operator.or_

    def joined(facts: Facts) -> NDArray[np.bool_]:
        truth = parts[0](facts)
        for part in parts[1:]:
            truth = combine(truth, part(facts))
        return truth

    return joined


def _member(read: Callable[[Facts], Any], codes: NDArray[np.float64], *, wanted: bool) -> Condition:
    def holds(facts: Facts) -> NDArray[np.bool_]:
        column = read(facts)
        member = column == codes[0]
        for code in codes[1:]:  # a few: cheaper than sorting them
            member = member | (column == code)
        return np.asarray(member if wanted else ~member & ~np.isnan(column))

    return holds
