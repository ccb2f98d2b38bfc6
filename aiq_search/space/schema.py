"""The search-space file, field by field (schema_version 1)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from aiq_search.datasets import DatasetOptions
from aiq_search.space.constraint import Constraint
from aiq_search.space.errors import SpaceError
from aiq_search.space.expression import Expression
from aiq_search.space.parameters import DerivedParameter, Parameter, Scalar, Suggester
from aiq_search.suggest import did_you_mean
from aiq_search.training import TrainingOptions

__all__ = [
    "ConfirmOptions",
    "ModelOptions",
    "ObjectiveOptions",
    "PrunerOptions",
    "ResourceOptions",
    "SamplerOptions",
    "SearchOptions",
    "SearchSpace",
]

Number = Literal["accuracy", "aiq", "efficiency", "loss", "macs", "parameters", "parameters_weights"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelOptions(BaseModel):
    """Which network, and the arguments that are not searched.

    Attributes:
        name: mlp, lenet_300_100, lenet_5, or ``package.module:function``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class ObjectiveOptions(_Section):
    """What is searched for.

    Attributes:
        maximize: A reported number, or several.
        minimize: Likewise; together with ``maximize``, several objectives.
        beta: Weight of accuracy in aIQ.
        constraints: ``NAME >= NUMBER`` or ``NAME <= NUMBER`` on reported numbers; or, on parameters,
            an expression such as ``model.hidden2 <= model.hidden1``.
    """

    maximize: Number | tuple[Number, ...] | None = None
    minimize: Number | tuple[Number, ...] | None = None
    beta: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    constraints: tuple[str, ...] = ()

    @field_validator("constraints")
    @classmethod
    def _parse(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            _parse_constraint(text)
        return texts

    @model_validator(mode="after")
    def _differ(self) -> ObjectiveOptions:
        names = [name for name, _ in self.directions]
        if len(set(names)) < len(names):
            raise ValueError(f"objectives must differ, but got {', '.join(names)}")
        return self

    @cached_property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Each objective with its direction, maximize or minimize; by default aIQ is maximised."""

        def names(given: str | tuple[str, ...] | None) -> tuple[str, ...]:
            return () if given is None else (given,) if isinstance(given, str) else given

        chosen = [(name, "maximize") for name in names(self.maximize)]
        chosen += [(name, "minimize") for name in names(self.minimize)]
        return tuple(chosen) or (("aiq", "maximize"),)

    @cached_property
    def number_constraints(self) -> tuple[Constraint, ...]:
        """The constraints on reported numbers."""
        parsed = (_parse_constraint(text) for text in self.constraints)
        return tuple(constraint for constraint in parsed if isinstance(constraint, Constraint))

    @cached_property
    def parameter_constraints(self) -> tuple[Expression, ...]:
        """The constraints on parameters."""
        parsed = (_parse_constraint(text) for text in self.constraints)
        return tuple(constraint for constraint in parsed if isinstance(constraint, Expression))


def _parse_constraint(text: str) -> Constraint | Expression:
    """A constraint that names a parameter (model.… or training.…) is one on parameters."""
    if re.search(r"\b(model|training)\.", text):
        return Expression(text)
    return Constraint.parse(text)


SamplerName = Literal["tpe", "random", "grid", "gp", "nsga2"]
PrunerName = Literal["asha", "median", "none"]


class SamplerOptions(BaseModel):
    """How configurations are proposed: a name, and options of Optuna's class of that name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: SamplerName = "tpe"


class PrunerOptions(BaseModel):
    """How hopeless trials are stopped: a name, and options of Optuna's class of that name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: PrunerName = "asha"


class SearchOptions(_Section):
    """How it is searched.

    Attributes:
        trials: How many configurations are tried.
        sampler: tpe, random, grid, gp or nsga2, or a mapping with ``name`` and options.
        pruner: asha, median or none, or a mapping with ``name`` and options.
        seed: Fixes what is tried and how it is trained.
        concurrency: How many trials run at once, at most; by default what the resources allow.
        max_hours: Stop asking for configurations after this time.
        target: Stop when the objective has reached this value.
        no_improvement: Stop when this many trials in a row brought nothing better.
        duplicates: A configuration asked for again is trained with a new seed (new_seed), or
            answered by what is known (known_result).
        max_retries: How often a trial whose worker died is tried again.
        max_failed: Stop with an error when more than this share of the trials fails.
        trial_minutes: A trial that takes longer fails.
    """

    trials: int = Field(default=60, ge=1)
    sampler: SamplerOptions = SamplerOptions()
    pruner: PrunerOptions = PrunerOptions()
    seed: int = Field(default=0, ge=0, lt=2**63)
    concurrency: int | None = Field(default=None, ge=1)
    max_hours: float | None = Field(default=None, gt=0)
    target: float | None = None
    no_improvement: int | None = Field(default=None, ge=1)
    duplicates: Literal["new_seed", "known_result"] = "known_result"
    max_retries: int = Field(default=3, ge=0)
    max_failed: float = Field(default=0.5, gt=0, le=1)
    trial_minutes: float | None = Field(default=None, gt=0)

    # The types are for the JSON Schema, which editors read: they see what is written, not what becomes of it.
    @field_validator("sampler", mode="before", json_schema_input_type=SamplerName | SamplerOptions)
    @classmethod
    def _sampler_by_name(cls, given: Any) -> Any:  # noqa: ANN401
        return _by_name(given)

    @field_validator("pruner", mode="before", json_schema_input_type=PrunerName | PrunerOptions)
    @classmethod
    def _pruner_by_name(cls, given: Any) -> Any:  # noqa: ANN401
        return _by_name(given)


def _by_name(given: Any) -> Any:  # noqa: ANN401
    return {"name": given} if isinstance(given, str) else given


class ConfirmOptions(_Section):
    """How the champion is found among the explored configurations: on fresh seeds.

    By default the configurations race: each training on a fresh seed goes to the one that may still be best.
    With ``finalists``, that many are each trained on ``seeds`` fresh seeds instead.

    Attributes:
        runs: Length of the race, in trainings; 0 turns confirming off.
        finalists: How many finalists to train on equally many seeds, in place of a race; 0 turns
            confirming off.
        seeds: How many further seeds report the champion's numbers, on the test split too; and how
            many decide for each finalist, where ``finalists`` is set.
        ties: Who wins where several cannot be told apart: smallest (the fewest parameters within one
            standard error of the best mean) or best (the best mean).
    """

    runs: int = Field(default=15, ge=0)
    finalists: int | None = Field(default=None, ge=0)
    seeds: int = Field(default=5, ge=1)
    ties: Literal["smallest", "best"] = "smallest"

    @property
    def confirms(self) -> bool:
        """Whether anything is trained on fresh seeds."""
        return self.runs > 0 if self.finalists is None else self.finalists > 0

    @property
    def races(self) -> bool:
        """Whether the fresh seeds are given out by a race."""
        return self.finalists is None and self.runs > 0

    @property
    def judging(self) -> int:
        """Replicates below this number decide who wins; those from it on report the champion's numbers."""
        return self.runs if self.races else self.seeds

    @property
    def trainings(self) -> int:
        """How many trainings on fresh seeds there will be, about: a race may take a few more."""
        if not self.confirms:
            return 0
        return (self.runs if self.finalists is None else self.finalists * self.seeds) + self.seeds


class ResourceOptions(_Section):
    """What one trial takes.

    Attributes:
        cpu: CPU cores; a trial trains in as many torch threads.
        gpu: GPUs; a fraction shares one.
    """

    cpu: int = Field(default=1, ge=1)
    gpu: float = Field(default=0, ge=0)


ParameterName = Annotated[str, Field(pattern=r"^(model|training)\.[A-Za-z_][A-Za-z0-9_]*$")]


class SearchSpace(_Section):
    """A whole search-space file.

    Attributes:
        schema_version: 1.
        name: Names the space, and the experiment in MLflow.
        model: The network and its fixed arguments.
        dataset: The data.
        parameters: What is searched, by dotted name: ``model.<argument>`` or ``training.<field>``.
        enqueue: Configurations to try first.
        objective: What is searched for.
        search: How.
        training: How each network is trained.
        confirm: How the best are confirmed.
        resources: What one trial takes.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")
    model: ModelOptions
    dataset: DatasetOptions
    parameters: dict[ParameterName, Parameter] = Field(min_length=1)
    enqueue: tuple[dict[str, Scalar], ...] = ()
    objective: ObjectiveOptions = ObjectiveOptions()
    search: SearchOptions = SearchOptions()
    training: TrainingOptions = TrainingOptions()
    confirm: ConfirmOptions = ConfirmOptions()
    resources: ResourceOptions = ResourceOptions()

    @model_validator(mode="after")
    def _check_references(self) -> SearchSpace:
        """Expressions read earlier parameters only; enqueued points belong to the space."""
        known: list[str] = []
        for name, parameter in self.parameters.items():
            texts = [parameter.when] if parameter.when else []
            if isinstance(parameter, DerivedParameter):
                texts.append(parameter.value)
            for read in sorted({read for text in texts for read in Expression(text).names}):
                if read not in known:
                    raise ValueError(
                        f"parameters.{name}: {read!r} is not a parameter that stands before it; "
                        + (did_you_mean(read, known) if known else "there is none.")
                    )
            known.append(name)
        for expression in self.objective.parameter_constraints:
            for read in sorted(expression.names - set(known)):
                raise ValueError(
                    f"objective.constraints: {read!r} in {expression.text!r} is not a parameter; "
                    + did_you_mean(read, known)
                )
        for index, point in enumerate(self.enqueue):
            self._check_point(f"enqueue[{index}]", point)
        if len(self.objective.directions) > 1 and self.search.pruner.name != "none":
            raise ValueError(
                "search.pruner: several objectives cannot be pruned (no single number ranks the trials); "
                "set search.pruner to none, or maximise one number"
            )
        if len(self.objective.directions) > 1 and self.search.target is not None:
            raise ValueError(
                "search.target: with several objectives it is not clear which one has to reach it; leave it "
                "out (search.no_improvement and search.max_hours also end a search), or name one objective"
            )
        return self

    def _check_point(self, where: str, point: Mapping[str, Scalar]) -> None:
        for name, value in point.items():
            parameter = self.parameters.get(name)
            if parameter is None or isinstance(parameter, DerivedParameter):
                raise ValueError(f"{where}: {name!r} is not searched; {did_you_mean(name, self.parameters)}")
            if not parameter.contains(value):
                raise ValueError(f"{where}: {name} = {value!r} lies outside its range")

    def suggest(self, trial: Suggester) -> dict[str, Scalar]:
        """Ask Optuna for a configuration, in the file's order.

        Args:
            trial: An Optuna trial.

        Returns:
            Values by dotted name; absent is a parameter whose condition does not hold, or that is derived
            from one that is absent.

        Raises:
            SpaceError: An expression cannot be computed.
        """
        values: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if parameter.when is not None and not _holds(name, parameter.when, values):
                continue
            if not isinstance(parameter, DerivedParameter):
                values[name] = parameter.suggest(trial, name)
            elif (expression := _parsed(parameter.value)).names <= values.keys():
                values[name] = _computed(f"parameters.{name}", expression, values)
        return values

    @property
    def conditional(self) -> bool:
        """Whether some parameters exist only under conditions."""
        return any(parameter.when for parameter in self.parameters.values())

    def allows(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a configuration meets the constraints on parameters.

        A constraint on a parameter that does not exist in this configuration is met.

        Raises:
            SpaceError: A constraint cannot be computed.
        """
        return all(
            not expression.names <= params.keys() or _computed("objective.constraints", expression, params)
            for expression in self.objective.parameter_constraints
        )

    def encode(self, point: Mapping[str, Scalar]) -> dict[str, Any]:
        """A configuration as Optuna keeps it, for enqueueing."""
        encoded = {}
        for name, value in point.items():
            parameter = self.parameters[name]
            if not isinstance(parameter, DerivedParameter):
                encoded[parameter.optuna_name(name)] = parameter.encode(value)  # type: ignore[arg-type]
        return encoded

    def model_arguments(self, params: Mapping[str, Scalar]) -> dict[str, Any]:
        """Arguments of the model's function under a configuration."""
        return {**self.model.arguments, **_section(params, "model")}

    def training_options(self, params: Mapping[str, Scalar]) -> TrainingOptions:
        """How a configuration is trained.

        Raises:
            SpaceError: A value lies outside its field's own range.
        """
        searched = _section(params, "training")
        try:
            return TrainingOptions.model_validate({**self.training.model_dump(), **searched})
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"]))
            raise SpaceError(
                f"parameters.training.{field}: {searched.get(field)!r} is not possible: {problem['msg']}."
            ) from None

    def document(self) -> dict[str, Any]:
        """The space as a JSON document, defaults included."""
        return self.model_dump(mode="json")

    @property
    def fingerprinted(self) -> dict[str, Any]:
        """What is searched and how: all but budgets, confirmation and resources, which may change."""
        document = self.document()
        for free in ("schema_version", "name", "enqueue", "confirm", "resources"):
            del document[free]
        kept = ("sampler", "pruner", "seed", "duplicates")
        document["search"] = {key: document["search"][key] for key in kept}
        return document

    @cached_property
    def fingerprint(self) -> str:
        """Identifies what is searched and how."""
        text = json.dumps(self.fingerprinted, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _section(params: Mapping[str, Scalar], section: str) -> dict[str, Any]:
    prefix = section + "."
    return {name.removeprefix(prefix): v for name, v in params.items() if name.startswith(prefix)}


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Expression:
    """An expression of the file; it is asked for with each configuration."""
    return Expression(text)


def _holds(name: str, when: str, values: Mapping[str, Any]) -> bool:
    expression = _parsed(when)
    # A condition on a parameter that does not exist here does not hold.
    return expression.names <= values.keys() and bool(_computed(f"parameters.{name}", expression, values))


def _computed(where: str, expression: Expression, values: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The value of an expression, or a sentence about why it has none."""
    try:
        value = expression.evaluate(values)
    except (ArithmeticError, TypeError, ValueError) as error:
        reason = str(error)
    else:
        if isinstance(value, bool | int | float | str):
            return value
        reason = f"{value!r} is no number"
    given = ", ".join(f"{name} = {values[name]!r}" for name in sorted(expression.names)) or "any values"
    raise SpaceError(f"{where}: {expression.text!r} cannot be computed with {given}: {reason}.")
