"""The configurations of a space: all of them, how many they are, and some at random."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiq_search.space.parameters import Derived, Scalar, float_steps
from aiq_search.space.schema import SearchSpace

__all__ = ["SpaceSize", "drawn", "grid", "space_size"]

# Up to so many configurations are counted one by one, fewer where each takes many operations.
_COUNTED = 50_000

# How many in a row may break the constraints on parameters before the space is at fault.
_REFUSED_DRAWS = 10_000
_REFUSED_CELLS = 500_000

# All of these together take a second or two.
_OPERATIONS = 2_000_000

# Larger numbers are only given by their magnitude.
_COUNTABLE = 10**18


@dataclass(frozen=True)
class SpaceSize:
    """How many configurations a space has.

    Attributes:
        number: How many; infinite where a parameter is continuous.
        exact: Whether they were counted; else they are at most so many.
    """

    number: float
    exact: bool = True

    def __str__(self) -> str:
        if self.number == math.inf:
            return "infinitely many configurations"
        if self.number > _COUNTABLE:
            return f"about 10^{math.log10(self.number):.0f} configurations"
        return f"{'' if self.exact else 'at most '}{self.number:,} configurations"


def space_size(space: SearchSpace) -> SpaceSize:
    """How many configurations there are.

    Where parameters exist under conditions or constraints refuse some, they are counted one by one; a space
    that is too large for that gets the number without conditions and constraints.
    """
    counts = [p.count for p in space.parameters.values() if not isinstance(p, Derived)]
    most = math.prod(counts)
    if most == math.inf or not (space.conditional or space.objective.parameter_constraints):
        return SpaceSize(most)
    allowed, patience = 0, _affordable(space, _COUNTED)
    for number, params in enumerate(_every(space)):
        if number == patience:
            return SpaceSize(most, exact=False)
        allowed += space.allows(params)
    return SpaceSize(allowed)


def grid(space: SearchSpace) -> Iterator[dict[str, Any]]:
    """Every configuration of a discrete space that its constraints allow, each once, in the file's order.

    Raises:
        SpaceError: A parameter is continuous, or the constraints allow next to nothing.
    """
    for name, parameter in space.parameters.items():
        if not isinstance(parameter, Derived) and parameter.count == math.inf:
            raise space.error(
                ("parameters", name),
                "a grid needs a step or choices for each parameter, but this one is continuous; "
                "give it a step, or use another sampler",
            )
    yield from _allowed(space, _every(space), _affordable(space, _REFUSED_CELLS))


def drawn(space: SearchSpace, seed: int = 0) -> Iterator[dict[str, Any]]:
    """An endless stream of random configurations that the constraints allow.

    Raises:
        SpaceError: The constraints allow next to nothing.
    """
    draw = _Draw(seed)
    patience = _affordable(space, _REFUSED_DRAWS)
    return _allowed(space, iter(lambda: space.suggest(draw), None), patience)


def _affordable(space: SearchSpace, number: int) -> int:
    """At most ``number`` configurations, fewer where each takes many operations."""
    return min(number, max(100, _OPERATIONS // space.draw_cost))


def _allowed(
    space: SearchSpace, points: Iterator[dict[str, Scalar]], patience: int
) -> Iterator[dict[str, Scalar]]:
    refused = 0
    for params in points:
        if space.allows(params):
            refused = 0
            yield params
            continue
        refused += 1
        if refused == patience:
            raise space.error(
                ("objective", "constraints"),
                f"{refused:,} configurations in a row broke a constraint on parameters; "
                "are the ranges and the constraints compatible?",
            )


def _every(space: SearchSpace) -> Iterator[dict[str, Scalar]]:
    """Every configuration of a discrete space once, the last parameter's value changing first."""
    odometer = _Odometer()
    while True:
        yield space.suggest(odometer)
        if not odometer.advance():
            return


class _Odometer:
    """A suggester that gives each combination of answers once.

    It asks the space itself which parameters exist, so a condition that does not hold costs nothing.
    """

    def __init__(self) -> None:
        self._digits: list[int] = []
        self._counts: list[int] = []
        self._asked = 0

    def advance(self) -> bool:
        """Continue with the next combination; False after the last."""
        self._asked = 0
        while self._digits and self._digits[-1] + 1 == self._counts[-1]:
            self._digits.pop()
            self._counts.pop()
        if not self._digits:
            return False
        self._digits[-1] += 1
        return True

    def _digit(self, count: int) -> int:
        if self._asked == len(self._digits):
            self._digits.append(0)
            self._counts.append(count)
        self._asked += 1
        return self._digits[self._asked - 1]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return low + step * self._digit((high - low) // step + 1)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is None:
            return low
        return min(high, low + step * self._digit(float_steps(low, high, step)))  # 3 * 0.1 > 0.3

    def suggest_categorical(self, name: str, choices: Any) -> Any:  # noqa: ANN401
        return choices[self._digit(len(choices))]


class _Draw:
    """A suggester that answers at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if not log:
            return self._random.randrange(low, high + 1, step)
        exponent = self._random.uniform(math.log(low), math.log(high + 1))
        return min(high, max(low, int(math.exp(min(exponent, 700.0)))))  # e^709 is the largest real number

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            return min(high, low + step * self._random.randrange(float_steps(low, high, step)))
        if log:
            return min(high, max(low, math.exp(self._random.uniform(math.log(low), math.log(high)))))
        return self._random.uniform(low, high)

    def suggest_categorical(self, name: str, choices: Any) -> Any:  # noqa: ANN401
        return self._random.choice(choices)
