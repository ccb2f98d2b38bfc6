"""Small expressions over parameters: ``model.depth >= 3``, ``2 * model.hidden1``.

Only numbers, strings, True, False, dotted names, + - * / // % **, comparisons, and / or / not, and
min, max, round are understood: an expression can compute, and nothing else.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Expression"]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Not: operator.not_}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "round": round}


class Expression:
    """A parsed expression.

    Attributes:
        text: As it was written.
        names: The dotted names that it reads.

    Args:
        text: The expression.

    Raises:
        ValueError: It cannot be parsed, or holds something that is not understood.

    Example:
        >>> Expression("model.depth >= 3 and not model.batch_norm").evaluate(
        ...     {"model.depth": 4, "model.batch_norm": False})
        True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ValueError(f"cannot parse the expression {text!r}") from None
        self.names: set[str] = set()
        self._check(self._tree)

    def _check(self, node: ast.expr) -> None:
        """Accept a node and what is below it, and note the names."""
        match node:
            case ast.Name() | ast.Attribute():
                self.names.add(self._dotted(node))
            case ast.Constant(value=bool() | int() | float() | str()):
                pass
            case ast.BinOp(left, op, right) if type(op) in _BINARY:
                self._check(left)
                self._check(right)
            case ast.UnaryOp(op, operand) if type(op) in _UNARY:
                self._check(operand)
            case ast.BoolOp(_, values):
                for value in values:
                    self._check(value)
            case ast.Compare(left, ops, comparators) if all(type(op) in _COMPARE for op in ops):
                for value in (left, *comparators):
                    self._check(value)
            case ast.Call(ast.Name(name), args, []) if name in _FUNCTIONS and args:
                for value in args:
                    self._check(value)
            case _:
                raise ValueError(
                    f"{ast.unparse(node)!r} in the expression {self.text!r} is not understood: "
                    "use parameters, numbers, arithmetic, comparisons, and/or/not, min, max, round"
                )

    def _dotted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{self._dotted(node.value)}.{node.attr}"
        if isinstance(node, ast.Name):
            return node.id
        raise ValueError(f"{ast.unparse(node)!r} in the expression {self.text!r} is not a parameter's name")

    def evaluate(self, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Compute the expression.

        Args:
            values: A value for each of ``names``.

        Raises:
            KeyError: A name has no value.
            ArithmeticError: A division by zero, or an overflow.
        """
        return self._evaluate(self._tree, values)

    def _evaluate(self, node: ast.expr, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
        match node:
            case ast.Constant(value):
                return value
            case ast.Name() | ast.Attribute():
                return values[self._dotted(node)]
            case ast.BinOp(left, op, right):
                first, second = self._evaluate(left, values), self._evaluate(right, values)
                if isinstance(op, ast.Pow) and abs(second) > 64:
                    raise OverflowError(f"the exponent {second} in {self.text!r} is over 64")
                return _BINARY[type(op)](first, second)
            case ast.UnaryOp(op, operand):
                return _UNARY[type(op)](self._evaluate(operand, values))
            case ast.BoolOp(op, parts):
                results = (bool(self._evaluate(part, values)) for part in parts)
                return all(results) if isinstance(op, ast.And) else any(results)
            case ast.Compare(left, ops, comparators):
                numbers = [self._evaluate(part, values) for part in (left, *comparators)]
                pairs = zip(ops, numbers, numbers[1:], strict=False)
                return all(_COMPARE[type(op)](a, b) for op, a, b in pairs)
            case ast.Call(ast.Name(name), args):
                return _FUNCTIONS[name](*(self._evaluate(part, values) for part in args))
        raise ValueError(f"cannot evaluate {ast.dump(node)}")  # _check lets nothing else through
