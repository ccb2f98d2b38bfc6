"""Small expressions over parameters: ``model.depth >= 3``, ``2 * model.hidden1``.

Only numbers, texts, True, False, dotted names, + - * / // % **, comparisons, and / or / not, and min, max,
round are allowed: an expression can compute with numbers and compare texts, and nothing else. Its length, its
depth, its numbers and its powers are bounded, so that it takes microseconds whatever a file says.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from aiq_search.space.errors import shown

__all__ = ["Expression", "parsed"]

_MAX_LENGTH = 1000
_MAX_DEPTH = 100
_MAX_INTEGER = 2**63 - 1
_MAX_EXPONENT = 64
_MAX_DIGITS = 20

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITY: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
# With the least and the largest number of arguments.
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "min": (min, 2, 20),
    "max": (max, 2, 20),
    "round": (round, 1, 2),
}


class Expression:
    """A parsed expression.

    Attributes:
        text: As it was written.
        names: The dotted names that it reads.
        size: How many operations it has.

    Args:
        text: The expression.

    Raises:
        ValueError: It cannot be parsed, is too long, or has something that is not allowed.

    Example:
        >>> Expression("model.depth >= 3 and not model.batch_norm").evaluate(
        ...     {"model.depth": 4, "model.batch_norm": False})
        True
    """

    def __init__(self, text: str) -> None:
        if len(text) > _MAX_LENGTH:
            raise ValueError(
                f"the expression {shown(text)} has {len(text):,} characters, but at most {_MAX_LENGTH:,}"
                " are allowed"
            )
        self.text = text
        self.names: set[str] = set()
        self.size = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python's, about odd texts
                self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(f"cannot parse the expression {shown(text)}") from None
        try:
            self._check(self._tree, 0)
            if not self.names:
                self.evaluate({})
        except (ArithmeticError, TypeError) as error:
            raise ValueError(f"the expression {shown(text)} cannot be computed: {error}") from None

    def _check(self, node: ast.expr, depth: int) -> None:
        """Accept a node and what is below it, and note the names."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"{shown(self.text)} is nested more than {_MAX_DEPTH} levels deep")
        self.size += 1
        for operand in self._operands(node):
            self._check(operand, depth + 1)

    def _operands(self, node: ast.expr) -> list[ast.expr]:
        """What a node computes with; every kind of node that is allowed is listed here."""
        match node:
            case ast.Name() | ast.Attribute():
                self.names.add(self._dotted(node))
                return []
            case ast.Constant(value=bool() | int() | float() as value):
                _number(value)
                return []
            case ast.Constant(value=str()):
                return []
            case ast.BinOp(left, op, right) if type(op) in _BINARY:
                return [left, right]
            case ast.UnaryOp(ast.USub() | ast.Not(), operand):
                return [operand]
            case ast.BoolOp(_, values):
                return values
            case ast.Compare(left, ops, others) if all(type(op) in _ORDER | _EQUALITY for op in ops):
                return [left, *others]
            case ast.Call(ast.Name(name), args, []) if name in _FUNCTIONS:
                _, least, most = _FUNCTIONS[name]
                if least <= len(args) <= most:
                    return args
                raise ValueError(
                    f"{name} takes {least} to {most} numbers, but got {len(args)} in {shown(self.text)}"
                )
        raise ValueError(
            f"{self._segment(node)} in {shown(self.text)} is not allowed: "
            "use parameters, numbers, arithmetic, comparisons, and/or/not, min, max, round"
        )

    def _segment(self, node: ast.expr) -> str:
        return shown(ast.get_source_segment(self.text.strip(), node))

    def _dotted(self, node: ast.expr) -> str:
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise ValueError(f"{self._segment(node)} in {shown(self.text)} is not the name of a parameter")
        return ".".join(reversed([*parts, node.id]))

    def evaluate(self, values: Mapping[str, Any]) -> bool | int | float | str:
        """Compute the expression.

        Args:
            values: A value for each of ``names``.

        Returns:
            A number of at most 63 bits, a finite real number, a boolean or a text.

        Raises:
            KeyError: A name has no value.
            ArithmeticError: A division by zero, or a number that is too large or not real.
            TypeError: Arithmetic with something that is not a number.
        """
        result: bool | int | float | str = self._evaluate(self._tree, values)
        return result

    def _evaluate(self, node: ast.expr, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
        match node:
            case ast.Constant(value):
                return value
            case ast.Name() | ast.Attribute():
                return values[self._dotted(node)]
            case ast.BinOp(left, op, right):
                first, second = self._numbers((left, right), values)
                if isinstance(op, ast.Pow) and abs(second) > _MAX_EXPONENT:
                    raise OverflowError(f"the exponent {second} is over {_MAX_EXPONENT}")
                return _number(_BINARY[type(op)](first, second))
            case ast.UnaryOp(ast.Not(), operand):
                return not self._evaluate(operand, values)
            case ast.UnaryOp(_, operand):
                return -self._numbers((operand,), values)[0]
            case ast.BoolOp(op, parts):
                results = (bool(self._evaluate(part, values)) for part in parts)
                return all(results) if isinstance(op, ast.And) else any(results)
            case ast.Compare(left, ops, others):
                return self._compare(ops, [left, *others], values)
            case ast.Call(ast.Name(name), args):
                return _call(name, self._numbers(args, values))
        raise ValueError(f"cannot evaluate {ast.dump(node)}")  # _operands lets nothing else through

    def _compare(self, ops: list[ast.cmpop], parts: list[ast.expr], values: Mapping[str, Any]) -> bool:
        operands = [self._evaluate(part, values) for part in parts]
        for op, first, second in zip(ops, operands, operands[1:], strict=False):
            if type(op) in _EQUALITY:
                holds = _EQUALITY[type(op)](first, second)
            else:
                holds = _ORDER[type(op)](_operand(first), _operand(second))
            if not holds:
                return False
        return True

    def _numbers(self, nodes: Sequence[ast.expr], values: Mapping[str, Any]) -> list[int | float]:
        """The values of operands that must be numbers."""
        return [_operand(self._evaluate(node, values)) for node in nodes]


def _operand(value: Any) -> int | float:  # noqa: ANN401
    if not isinstance(value, int | float):
        raise TypeError(f"expected a number, but got {value!r}")
    return value


def _number(value: Any) -> int | float:  # noqa: ANN401
    """A number that is neither too large nor something else."""
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise OverflowError("a whole number has more than 63 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError("a number is too large")
    return _operand(value)


def _call(name: str, numbers: list[int | float]) -> int | float:
    if name == "round" and len(numbers) == 2:
        digits = numbers[1]
        if digits != int(digits) or abs(digits) > _MAX_DIGITS:
            raise OverflowError(f"round takes up to {_MAX_DIGITS} digits, but got {digits}")
        numbers = [numbers[0], int(digits)]
    return _number(_FUNCTIONS[name][0](*numbers))


@lru_cache(maxsize=1024)
def parsed(text: str) -> Expression:
    """An expression, which a search asks for with each configuration."""
    return Expression(text)
