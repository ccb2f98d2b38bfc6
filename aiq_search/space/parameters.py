"""The kinds of searchable parameters, and how Optuna is asked for each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from aiq_search.space.errors import shown
from aiq_search.space.expression import Expression
from aiq_search.space.section import Section, checks_as_pydantic

__all__ = ["Categorical", "Derived", "Float", "Int", "Parameter", "Scalar", "Suggester", "float_steps"]


def _no_container(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    raise ValueError(f"expected true or false, a number or text, but got {shown(value)}")


Scalar: TypeAlias = Annotated[bool | int | float | str | None, BeforeValidator(_no_container)]

# By what part of a step a real number may miss it: Optuna's.
_STEP_TOLERANCE = 1e-8

# Optuna computes with real numbers, which hold whole numbers exactly up to here.
_MAX_INTEGER = 2**53

Integer = Annotated[int, Field(ge=-_MAX_INTEGER, le=_MAX_INTEGER)]


class Suggester(Protocol):
    """The part of an Optuna trial that parameters use."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...  # noqa: D102

    def suggest_float(  # noqa: D102
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...  # noqa: ANN401, D102


class _Parameter(Section):
    """What all kinds share.

    Attributes:
        when: The parameter exists only where this expression over earlier parameters holds.
    """

    _positional: ClassVar[tuple[str, ...]]

    when: str | None = None

    @field_validator("when")
    @classmethod
    def _parse_when(cls, text: str | None) -> str | None:
        if text is not None:
            Expression(text)
        return text

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What was given, as it is given in Python."""
        given = {name: value for name, value in super().__repr_args__() if name not in ("type", "when")}
        for name, value in given.items():
            yield None if name in self._positional else name, value
        if self.when is not None:
            yield "when", self.when

    def optuna_name(self, name: str) -> str:
        """The name under which Optuna knows the parameter."""
        return name

    def encode(self, value: Any) -> Any:  # noqa: ANN401
        """A value as Optuna keeps it."""
        return value


def _given(kind: str, required: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a parameter that are set: only these are written to a file."""
    return {"type": kind, **required, **{name: value for name, value in options.items() if value is not None}}


def _check_range(low: float, high: float, log: bool, step: float | None) -> None:
    if low > high:
        raise ValueError(f"low <= high must hold, but got low={low:g}, high={high:g}")
    if log and low <= 0:
        raise ValueError(f"a log range must start above 0, but got low={low:g}; raise low or drop log")
    if log and step is not None:
        raise ValueError("log and step exclude each other")
    if math.isinf(high - low) or (step is not None and (high - low) / step > _MAX_INTEGER):
        raise ValueError(f"the range is too large: low={low:g}, high={high:g}, step={step or 0:g}")


def _range(low: float, high: float, log: bool, step: float | None, powers_of: int | None = None) -> str:
    """A range in words.

    >>> _range(2, 64, True, None), _range(0, 0.5, False, 0.1), _range(1, 8, False, None, 2)
    ('2 to 64, log scale', '0 to 0.5, step 0.1', '1 to 8, powers of 2')
    """
    text = f"{low:g} to {high:g}"
    text += ", log scale" if log else ""
    text += f", step {step:g}" if step else ""
    return text + (f", powers of {powers_of}" if powers_of else "")


def float_steps(low: float, high: float, step: float) -> int:
    """How many values a range of real numbers has, its ends counted."""
    return math.floor((high - low) / step + _STEP_TOLERANCE) + 1


class Int(_Parameter):
    """A whole number in [low, high].

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether it is drawn on a log scale.
        step: Distance between values.
        powers_of: Only powers of this base, such as 2; low and high must be two of them.

    Example:
        >>> Int(2, 256, log=True)
        Int(2, 256, log=True)
    """

    _positional = ("low", "high")

    type: Literal["int"]
    low: Integer
    high: Integer
    log: bool = False
    step: int | None = Field(default=None, ge=1, le=_MAX_INTEGER)
    powers_of: int | None = Field(default=None, ge=2, le=_MAX_INTEGER)

    @checks_as_pydantic
    def __init__(
        self,
        low: int,
        high: int,
        *,
        log: bool = False,
        step: int | None = None,
        powers_of: int | None = None,
        when: str | None = None,
    ) -> None:
        options = {"log": log or None, "step": step, "powers_of": powers_of, "when": when}
        super().__init__(**_given("int", {"low": low, "high": high}, options))

    @model_validator(mode="after")
    def _check(self) -> Int:
        _check_range(self.low, self.high, self.log, self.step)
        if self.powers_of is not None:
            if self.log or self.step is not None:
                raise ValueError("powers_of excludes log and step")
            for bound in (self.low, self.high):
                if bound < 1 or self.powers_of ** self._exponent(bound) != bound:
                    raise ValueError(f"low and high must be powers of {self.powers_of}, but got {bound}")
        return self

    def _exponent(self, value: int) -> int:
        return round(math.log(value, self.powers_of or 2))

    def optuna_name(self, name: str) -> str:
        """The name under which Optuna knows the parameter: powers are drawn and kept as exponents."""
        return name if self.powers_of is None else f"log{self.powers_of}({name})"

    @property
    def values(self) -> str:
        """The values as one reads them."""
        return _range(self.low, self.high, self.log, self.step, self.powers_of)

    def suggest(self, trial: Suggester, name: str) -> int:
        """Ask Optuna for a value."""
        if self.powers_of is not None:
            low, high = self._exponent(self.low), self._exponent(self.high)
            return int(self.powers_of ** trial.suggest_int(self.optuna_name(name), low, high))
        step = self.step or 1
        high = self.high - (self.high - self.low) % step  # Optuna warns about a range that steps overshoot
        return trial.suggest_int(name, self.low, high, step=step, log=self.log)

    def encode(self, value: Any) -> int:  # noqa: ANN401
        """A value as Optuna keeps it."""
        return value if self.powers_of is None else self._exponent(value)

    def contains(self, value: Scalar) -> bool:
        """Whether a value belongs to the range."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return False
        if self.powers_of is not None:
            return bool(self.powers_of ** self._exponent(value) == value)
        return (value - self.low) % (self.step or 1) == 0

    def position(self, value: Any) -> float:  # noqa: ANN401
        """How high a value is in the range, from 0 to 1."""
        return float((value - self.low) / ((self.high - self.low) or 1))

    @property
    def count(self) -> float:
        """How many values there are."""
        if self.powers_of is not None:
            return self._exponent(self.high) - self._exponent(self.low) + 1
        return (self.high - self.low) // (self.step or 1) + 1


class Float(_Parameter):
    """A real number in [low, high].

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether it is drawn on a log scale.
        step: Distance between values; none: every value.

    Example:
        >>> Float(1e-3, 1e-1, log=True, when="model.hidden1 >= 8")
        Float(0.001, 0.1, log=True, when='model.hidden1 >= 8')
    """

    _positional = ("low", "high")

    type: Literal["float"]
    low: float
    high: float
    log: bool = False
    step: float | None = Field(default=None, gt=0)

    @checks_as_pydantic
    def __init__(
        self,
        low: float,
        high: float,
        *,
        log: bool = False,
        step: float | None = None,
        when: str | None = None,
    ) -> None:
        options = {"log": log or None, "step": step, "when": when}
        super().__init__(**_given("float", {"low": low, "high": high}, options))

    @model_validator(mode="after")
    def _check(self) -> Float:
        _check_range(self.low, self.high, self.log, self.step)
        return self

    @property
    def values(self) -> str:
        """The values as one reads them."""
        return _range(self.low, self.high, self.log, self.step)

    def suggest(self, trial: Suggester, name: str) -> float:
        """Ask Optuna for a value."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def encode(self, value: Any) -> float:  # noqa: ANN401
        """A value as Optuna keeps it."""
        return float(value)

    def contains(self, value: Scalar) -> bool:
        """Whether a value belongs to the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= float(value) <= self.high:
            return False
        steps = 0.0 if self.step is None else (float(value) - self.low) / self.step
        return abs(steps - round(steps)) < _STEP_TOLERANCE

    def position(self, value: Any) -> float:  # noqa: ANN401
        """How high a value is in the range, from 0 to 1."""
        return float((value - self.low) / ((self.high - self.low) or 1))

    @property
    def count(self) -> float:
        """How many values there are."""
        if self.low == self.high:
            return 1
        return math.inf if self.step is None else float_steps(self.low, self.high, self.step)


class Categorical(_Parameter):
    """One of some choices.

    Attributes:
        choices: Booleans, numbers or strings.

    Example:
        >>> Categorical(["elu", "relu"])
        Categorical(('elu', 'relu'))
    """

    _positional = ("choices",)

    type: Literal["categorical"]
    choices: tuple[Scalar, ...] = Field(min_length=1, strict=False)

    @checks_as_pydantic
    def __init__(
        self, choices: Sequence[bool | int | float | str | None], *, when: str | None = None
    ) -> None:
        super().__init__(**_given("categorical", {"choices": choices}, {"when": when}))

    @field_validator("choices")
    @classmethod
    def _differ(cls, choices: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        if len(set(choices)) < len(choices):  # 1, 1.0 and true are one choice for Optuna
            raise ValueError(f"choices must differ, but got {shown(list(choices))}")
        return choices

    @property
    def values(self) -> str:
        """The values as one reads them."""
        return ", ".join(str(choice) for choice in self.choices)

    def suggest(self, trial: Suggester, name: str) -> Scalar:
        """Ask Optuna for a value."""
        return trial.suggest_categorical(name, list(self.choices))  # type: ignore[no-any-return]

    def contains(self, value: Scalar) -> bool:
        """Whether a value is one of the choices."""
        return any(type(choice) is type(value) and choice == value for choice in self.choices)

    def position(self, value: Scalar) -> float:
        """How late a value is among the choices, from 0 to below 1."""
        return self.choices.index(value) / len(self.choices)

    @property
    def count(self) -> float:
        """How many values there are."""
        return len(self.choices)


class Derived(_Parameter):
    """A value computed from earlier parameters; it is not searched.

    Attributes:
        value: An expression over earlier parameters.

    Example:
        >>> Derived("2 * model.hidden1")
        Derived('2 * model.hidden1')
    """

    _positional = ("value",)

    type: Literal["derived"]
    value: str

    @checks_as_pydantic
    def __init__(self, value: str, *, when: str | None = None) -> None:
        super().__init__(**_given("derived", {"value": value}, {"when": when}))

    @property
    def values(self) -> str:
        """The values as one reads them."""
        return f"= {self.value}"

    @field_validator("value")
    @classmethod
    def _parse_value(cls, text: str) -> str:
        Expression(text)
        return text


Parameter: TypeAlias = Annotated[Int | Float | Categorical | Derived, Field(discriminator="type")]
