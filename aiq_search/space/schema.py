"""A search space: read from a file or made in Python, and its configurations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import ValidationError

from aiq_search.datasets import DatasetOptions
from aiq_search.datasets.options import FIELDS_OF
from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.space.expression import Expression, parsed
from aiq_search.space.fields import SpaceFields
from aiq_search.space.mistakes import mistakes
from aiq_search.space.options import (
    RUNGS,
    ConfirmOptions,
    ModelOptions,
    ObjectiveOptions,
    ResourceOptions,
    SearchOptions,
)
from aiq_search.space.parameters import Categorical, Derived, Float, Int, Scalar, Suggester
from aiq_search.space.section import checks_as_pydantic
from aiq_search.space.source import Source, read_text
from aiq_search.space.yaml import yaml_of
from aiq_search.training import TrainingOptions

__all__ = ["SearchSpace"]

# The fields of ``dataset`` that any data have, and that what is searched depends on.
_ANY_DATA = set(DatasetOptions.model_fields) - set(FIELDS_OF) - {"watch"}

# Fields of ``training`` that came after the first studies, whose fingerprints do not have them.
_LATER = ("warmup", "gradient_clipping", "label_smoothing", "class_weights", "augment", "cuda_graphs")


class SearchSpace(SpaceFields):
    """A search space: what a search-space file has, made of YAML or in Python.

    In Python a section is an object such as ``ObjectiveOptions(maximize="aiq")``, or a mapping of the same
    form; ``model`` and ``dataset`` may be a name alone, as in the file.

    Example:
        >>> space = SearchSpace(
        ...     name="tiny",
        ...     model="mlp",
        ...     dataset="digits",
        ...     parameters={"model.hidden1": Int(2, 64, log=True)},
        ...     objective=ObjectiveOptions(constraints=["accuracy >= 0.9"]),
        ... )
        >>> print(space.to_yaml())
        schema_version: 1
        name: tiny
        model: {name: mlp}
        dataset: {name: digits}
        parameters:
          model.hidden1: {type: int, low: 2, high: 64, log: true}
        objective: {constraints: [accuracy >= 0.9]}
        <BLANKLINE>
        >>> SearchSpace.from_yaml(space.to_yaml()) == space
        True
    """

    @checks_as_pydantic
    def __init__(
        self,
        *,
        name: str,
        model: str | ModelOptions | Mapping[str, Any],
        dataset: str | DatasetOptions | Mapping[str, Any],
        parameters: Mapping[str, Int | Float | Categorical | Derived | Mapping[str, Any]],
        enqueue: Sequence[Mapping[str, Any]] | None = None,
        objective: ObjectiveOptions | Mapping[str, Any] | None = None,
        search: SearchOptions | Mapping[str, Any] | None = None,
        training: TrainingOptions | Mapping[str, Any] | None = None,
        confirm: ConfirmOptions | Mapping[str, Any] | None = None,
        resources: ResourceOptions | Mapping[str, Any] | None = None,
        schema_version: Literal[1] = 1,
    ) -> None:
        given: dict[str, Any] = {
            "schema_version": schema_version,
            "name": name,
            "model": model,
            "dataset": dataset,
            "parameters": parameters,
            "enqueue": enqueue,
            "objective": objective,
            "search": search,
            "training": training,
            "confirm": confirm,
            "resources": resources,
        }
        super().__init__(**{section: value for section, value in given.items() if value is not None})

    @classmethod
    def read(cls, document: Any, source: Source) -> SearchSpace:  # noqa: ANN401
        """Read a document whose values are plain data.

        Args:
            document: A mapping of the form of a search-space file.
            source: Where it is from; the space's errors name the file and the line.

        Raises:
            SpaceError: Something in it is wrong.
        """
        try:
            space = cls.model_validate(document)
        except ValidationError as error:
            raise SpaceError(mistakes(cls, document, source, error)) from None
        space._source = source
        return space

    @classmethod
    def from_yaml(cls, text: str) -> SearchSpace:
        """Read a space from the text of a search-space file; ``load_space`` reads files.

        Raises:
            SpaceError: It is not YAML of that form; the message names the line and the key.
        """
        places: dict[Key, str] = {}
        document = read_text(text, "the YAML text", places)
        return cls.read(document, Source("the YAML text", places))

    def to_yaml(self) -> str:
        """The text of a search-space file with this space: what was given, without defaults."""
        return yaml_of(self.model_dump(mode="json", exclude_unset=True))

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
            if not isinstance(parameter, Derived):
                values[name] = parameter.suggest(trial, name)
            elif (expression := parsed(parameter.value)).names <= values.keys():
                values[name] = self._computed(("parameters", name, "value"), expression, values)
        return values

    def _holds(self, name: str, when: str, values: Mapping[str, Any]) -> bool:
        expression = parsed(when)
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
        expressions = [*map(parsed, texts), *self.objective.parameter_constraints.values()]
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
            if not isinstance(parameter, Derived):
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
