"""Conditions that packs are written in: `sentiment < -0.3 and device in ("mobile", "tablet")`.

A condition is parsed once into a function of facts and never evaluated as code. The same function takes
one row (f,) and a matrix (n, f). A comparison with a missing fact is False, whatever the operator;
`missing(field)` asks for it by name. A time has `.hour` (0-24) and `.weekday` (0 is Monday).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nba.errors import ConditionError
from nba.facts import TIME_PARTS

if TYPE_CHECKING:
    from nba.facts import Field
    from nba.types import Facts

Condition: TypeAlias = "Callable[[Facts], NDArray[np.bool_]]"
MAX_LENGTH = 500  # characters of one condition
ALWAYS = "always"

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: lambda x, y: x < y,
    ast.LtE: lambda x, y: x <= y,
    ast.Gt: lambda x, y: x > y,
    ast.GtE: lambda x, y: x >= y,
    ast.Eq: lambda x, y: x == y,
    ast.NotEq: lambda x, y: (x != y) & ~np.isnan(x),
}


def parse(text: str, fields: Mapping[str, Field]) -> Condition:
    """The condition as a function of facts (..., f) to truth (...), columns in the order of `fields`.

    Raises ConditionError with the column of the text where it goes wrong.
    """
    if text.strip() == ALWAYS:
        return lambda facts: np.ones(facts.shape[:-1], dtype=np.bool_)
    if len(text) > MAX_LENGTH:
        raise ConditionError(
            f"condition of {len(text)} characters", help=f"keep it to {MAX_LENGTH}; split it into two guardrails"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConditionError(
            f"condition {text!r} does not parse: {error.args[0]}",
            help='write comparisons joined by and, or, not: sentiment < -0.3 and device == "mobile"',
        ) from None
    return _Parser(text, fields).build(tree)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class _Parser:
    """Walks a parsed expression and allows only comparisons of fields with constants."""

    def __init__(self, text: str, fields: Mapping[str, Field]) -> None:
        self.text, self.fields = text, fields
        self.columns = {name: i for i, name in enumerate(fields)}

    def build(self, node: ast.expr) -> Condition:
        match node:
            case ast.BoolOp(op=op, values=values):
                return self._join([self.build(v) for v in values], every=isinstance(op, ast.And))
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
                return lambda facts: np.asarray(facts[..., column] == 1.0)
        raise self._error("this is not allowed in a condition", node, "use comparisons, and, or, not, in, missing(f)")

    @staticmethod
    def _join(parts: list[Condition], *, every: bool) -> Condition:
        def joined(facts: Facts) -> NDArray[np.bool_]:
            truth = parts[0](facts)
            for part in parts[1:]:
                truth = (truth & part(facts)) if every else (truth | part(facts))
            return truth

        return joined

    def _compare(self, node: ast.Compare) -> Condition:
        if len(node.ops) != 1:
            raise self._error("a chain of comparisons", node, "write one comparison each, joined by `and`")
        op, right = node.ops[0], node.comparators[0]
        read, code, ordered = self._left(node.left)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                raise self._error("`in` needs a list of values", node, 'write field in ("a", "b")')
            codes, wanted = np.array([code(e) for e in right.elts]), isinstance(op, ast.In)
            return lambda facts: (np.isin(read(facts), codes) == wanted) & ~np.isnan(read(facts))
        compare = _COMPARE.get(type(op))
        if compare is None:
            raise self._error("unknown operator", node, "use <, <=, >, >=, ==, != or in")
        if not ordered and not isinstance(op, ast.Eq | ast.NotEq):
            raise self._error("this field has no order", node, "compare it with ==, != or in")
        constant = code(right)
        return lambda facts: np.asarray(compare(read(facts), constant), dtype=np.bool_)

    def _left(self, node: ast.expr) -> tuple[Callable[[Facts], Any], Callable[[ast.expr], float], bool]:
        """How to read the left side, how to code a constant it is compared with, and whether it has an order."""
        match node:
            case ast.Name(id=name):
                column, field = self._column(name, node), self.fields[name]
                ordered = field.type in ("number", "time")
                return (lambda facts: facts[..., column]), (lambda e: self._constant(name, field.code, e)), ordered
            case ast.Attribute(value=ast.Name(id=name), attr=part) if part in TIME_PARTS:
                column = self._column(name, node)
                if self.fields[name].type != "time":
                    raise self._error(f"{name!r} is not a time field", node, "only a time has .hour and .weekday")
                read_part = TIME_PARTS[part]
                return (lambda facts: read_part(facts[..., column])), (lambda e: self._constant(name, _number, e)), True
        raise self._error("a comparison starts with a field", node, "write field < value, or time_field.hour < 8")

    def _column(self, name: str, node: ast.AST) -> int:
        if name not in self.columns:
            raise self._error(f"unknown field {name!r}", node, f"the moment's fields are {', '.join(self.columns)}")
        return self.columns[name]

    def _constant(self, name: str, code: Callable[[Any], float | None], node: ast.expr) -> float:
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise self._error("the right side is a constant", node, f"compare {name!r} with a value") from None
        coded = code(value)
        if coded is None or np.isnan(coded):
            way_out = f"{name!r} is {self.fields[name].describe()}"
            raise self._error(f"{value!r} is not a value of {name!r}", node, way_out)
        return coded

    def _error(self, what: str, node: ast.AST, way_out: str) -> ConditionError:
        column = getattr(node, "col_offset", 0) + 1
        return ConditionError(f"{what} in condition {self.text!r} at column {column}", help=way_out)
