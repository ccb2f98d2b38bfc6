"""The search-space file as a whole (schema_version 1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from aiq_search.datasets import DatasetOptions
from aiq_search.datasets.options import FIELDS_OF
from aiq_search.space.constraint import UNTRAINED
from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.space.expression import Expression
from aiq_search.space.options import (
    RUNGS,
    ConfirmOptions,
    ModelOptions,
    ObjectiveOptions,
    PrunerOptions,
    ResourceOptions,
    SamplerOptions,
    SearchOptions,
    Section,
)
from aiq_search.space.parameters import DerivedParameter, Parameter, Scalar, Suggester
from aiq_search.space.source import Source
from aiq_search.suggest import did_you_mean
from aiq_search.training import TrainingOptions
from aiq_search.training.measures import INT8_ACCURACY

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

# Optuna models no more dimensions in a sensible time.
_MOST_PARAMETERS = 500

# The fields of ``dataset`` that any data have, and that what is searched depends on.
_ANY_DATA = set(DatasetOptions.model_fields) - set(FIELDS_OF) - {"watch"}

# Fields of ``training`` that came after the first studies, whose fingerprints do not have them.
_LATER = ("warmup", "gradient_clipping", "label_smoothing", "class_weights", "augment", "cuda_graphs")

ParameterName = Annotated[str, Field(pattern=r"^(model|training(\.augment)?)\.[A-Za-z_][A-Za-z0-9_]*$")]


class SearchSpace(Section):
    """A whole search-space file.

    Attributes:
        schema_version: 1.
        name: Names the space, and the experiment in MLflow.
        model: The network and its fixed arguments.
        dataset: The data.
        parameters: What is searched, by dotted name: ``model.<argument>``, ``training.<field>`` or
            ``training.augment.<field>``.
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
    parameters: dict[ParameterName, Parameter] = Field(min_length=1, max_length=_MOST_PARAMETERS)
    enqueue: Annotated[tuple[dict[str, Scalar], ...], Field(strict=False)] = ()
    objective: ObjectiveOptions = ObjectiveOptions()
    search: SearchOptions = SearchOptions()
    training: TrainingOptions = TrainingOptions()
    confirm: ConfirmOptions = ConfirmOptions()
    resources: ResourceOptions = ResourceOptions()

    _source: Source = PrivateAttr(default=Source())

    def with_source(self, source: Source) -> SearchSpace:
        """The same space, whose errors name the file and the line."""
        space = self.model_copy()
        space._source = source
        return space

    def error(self, key: Key, message: str) -> SpaceError:
        """What is wrong with a value of the file, and where it is."""
        return self._source.error(key, message)

    @model_validator(mode="after")
    def _check_expressions(self) -> SearchSpace:
        """Expressions read earlier parameters only."""
        earlier: list[str] = []
        for name, parameter in self.parameters.items():
            texts = {"when": parameter.when}
            if isinstance(parameter, DerivedParameter):
                texts["value"] = parameter.value
            for field, text in texts.items():
                unknown = sorted(_parsed(text).names - set(earlier)) if text is not None else []
                if unknown:
                    hint = did_you_mean(unknown[0], earlier) if earlier else "this is the first parameter"
                    message = f"{unknown[0]!r} is not a parameter above this one; {hint}"
                    raise SpaceError(message, ("parameters", name, field))
            earlier.append(name)
        for index, expression in self.objective.parameter_constraints.items():
            for missing in sorted(expression.names - set(earlier)):
                raise SpaceError(
                    f"{missing!r} in {expression.text!r} is no parameter; {did_you_mean(missing, earlier)}",
                    ("objective", "constraints", index),
                )
        return self

    @model_validator(mode="after")
    def _check_enqueued(self) -> SearchSpace:
        """Enqueued points belong to the space."""
        for index, point in enumerate(self.enqueue):
            for name, value in point.items():
                parameter = self.parameters.get(name)
                key = ("enqueue", index, name)
                if parameter is None or isinstance(parameter, DerivedParameter):
                    raise SpaceError(f"this is not searched; {did_you_mean(name, self.parameters)}", key)
                if not parameter.contains(value):
                    raise SpaceError(f"{shown(value)} is outside its range", key)
        return self

    @model_validator(mode="after")
    def _check_confirmed_measures(self) -> SearchSpace:
        """What only confirmations report needs some."""
        if self.objective.confirmed_measures and not self.confirm.confirms:
            raise SpaceError(
                f"{INT8_ACCURACY} is measured on fresh seeds, and the section confirm turns these off; set "
                "confirm.runs above 0",
                ("objective", "constraints"),
            )
        return self

    @model_validator(mode="after")
    def _check_objectives(self) -> SearchSpace:
        """Successive halving and a target need one objective that training decides."""
        names = [name for name, _ in self.objective.directions]
        if "pruner" not in self.search.model_fields_set and (len(names) > 1 or names[0] in UNTRAINED):
            pareto = PrunerOptions(name="pareto")
            # Frozen for others.
            self.__dict__["search"] = self.search.model_copy(update={"pruner": pareto})
        elif self.search.pruner.name in ("asha", "median"):
            pruner = self.search.pruner.name
            if len(names) > 1:
                raise SpaceError(
                    f"{pruner} ranks trials by one number, but there are several objectives; "
                    "set search.pruner to pareto or none",
                    ("search", "pruner"),
                )
            if names[0] in UNTRAINED:
                raise SpaceError(
                    f"{pruner} would stop networks for their {names[0]} alone, however good they are: this "
                    "objective is known before training; set search.pruner to pareto or none",
                    ("search", "pruner"),
                )
        if len(self.objective.directions) > 1 and self.search.target is not None:
            raise SpaceError(
                "with several objectives it is not clear which one has to reach it; leave it "
                "out (search.no_improvement and search.max_hours also end a search), or name one objective",
                ("search", "target"),
            )
        return self

    @model_validator(mode="after")
    def _check_replicates(self) -> SearchSpace:
        """Replicates are of a grid, whose every cell is trained to the end."""
        if self.search.replicates == 1:
            return self
        if self.search.sampler.name != "grid":
            raise SpaceError(
                "only the cells of a grid are trained on several seeds; the sampler "
                f"{self.search.sampler.name} looks for the best, which confirm then trains on fresh seeds. "
                "Set search.sampler to grid, or leave replicates out",
                ("search", "replicates"),
            )
        if self.search.pruner.name != "none":
            raise SpaceError(
                "a mean over seeds needs each of them trained to the end; set search.pruner to none",
                ("search", "replicates"),
            )
        if self.confirm.confirms:
            raise SpaceError(
                "every cell has its seeds already; set confirm.runs to 0, and leave confirm.finalists out",
                ("search", "replicates"),
            )
        return self

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
            if parameter.when is not None and not self._holds(name, parameter.when, values):
                continue
            if not isinstance(parameter, DerivedParameter):
                values[name] = parameter.suggest(trial, name)
            elif (expression := _parsed(parameter.value)).names <= values.keys():
                values[name] = self._computed(("parameters", name, "value"), expression, values)
        return values

    def _holds(self, name: str, when: str, values: Mapping[str, Any]) -> bool:
        expression = _parsed(when)
        # A condition on a parameter that does not exist here does not hold.
        return expression.names <= values.keys() and bool(
            self._computed(("parameters", name, "when"), expression, values)
        )

    def _computed(self, key: Key, expression: Expression, values: Mapping[str, Any]) -> Scalar:
        """The value of an expression.

        Raises:
            SpaceError: It has none.
        """
        try:
            return expression.evaluate(values)
        except (ArithmeticError, TypeError) as error:
            given = ", ".join(f"{name} = {shown(values[name])}" for name in sorted(expression.names))
            raise self.error(
                key, f"{shown(expression.text)} cannot be computed with {given}: {error}"
            ) from None

    @property
    def conditional(self) -> bool:
        """Whether some parameters exist only under conditions."""
        return any(parameter.when for parameter in self.parameters.values())

    @cached_property
    def draw_cost(self) -> int:
        """How many operations it takes to draw a configuration and to check its constraints."""
        texts = [
            text for p in self.parameters.values() for text in (p.when, getattr(p, "value", None)) if text
        ]
        expressions = [*map(_parsed, texts), *self.objective.parameter_constraints.values()]
        return len(self.parameters) + sum(2 + expression.size for expression in expressions)

    def allows(self, params: Mapping[str, Scalar]) -> bool:
        """Whether a configuration meets the constraints on parameters.

        A constraint on a parameter that does not exist in this configuration is met.

        Raises:
            SpaceError: A constraint cannot be computed.
        """
        return all(
            not expression.names <= params.keys()
            or self._computed(("objective", "constraints", index), expression, params)
            for index, expression in self.objective.parameter_constraints.items()
        )

    def encode(self, point: Mapping[str, Scalar]) -> dict[str, Any]:
        """A configuration as Optuna keeps it, for enqueueing."""
        encoded = {}
        for name, value in point.items():
            parameter = self.parameters[name]
            if not isinstance(parameter, DerivedParameter):
                encoded[parameter.optuna_name(name)] = parameter.encode(value)
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
        document = {**self.training.model_dump(), **{k: v for k, v in searched.items() if "." not in k}}
        if augment := _section(params, "training.augment"):
            document["augment"] = {**self.training.augment.model_dump(), **augment}
        try:
            return TrainingOptions.model_validate(document)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"]))
            raise self.error(
                ("parameters", f"training.{field}"),
                f"{shown(searched.get(field))} is not possible: {problem['msg']}",
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
        document["dataset"] = {
            key: value
            for key, value in document["dataset"].items()
            if key in _ANY_DATA or key in self.dataset.given
        }  # a file from before there were the fields of tables and pictures searched the same
        default = ObjectiveOptions().model_dump(mode="json")
        for name in ("accuracy", "capture"):
            if document["objective"][name] == default[name]:
                del document["objective"][name]  # likewise
        kept = ("sampler", "pruner", "seed", "duplicates", "replicates")
        document["search"] = {key: document["search"][key] for key in kept}
        # A file from before there were these searches the same.
        if document["search"]["pruner"]["rungs"] == list(RUNGS):
            del document["search"]["pruner"]["rungs"]
        if document["search"]["replicates"] == 1:
            del document["search"]["replicates"]
        training = TrainingOptions().model_dump(mode="json")
        for name in _LATER:
            if document["training"][name] == training[name]:
                del document["training"][name]
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
