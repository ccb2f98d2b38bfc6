"""What a search-space file has (schema_version 1), and the rules that its fields obey together."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from aiq_search.datasets import DatasetOptions
from aiq_search.space.constraint import UNTRAINED
from aiq_search.space.errors import Key, SpaceError, shown
from aiq_search.space.expression import parsed
from aiq_search.space.options import (
    ConfirmOptions,
    ModelOptions,
    ObjectiveOptions,
    PrunerOptions,
    ResourceOptions,
    SearchOptions,
    by_name,
)
from aiq_search.space.parameters import Derived, Parameter, Scalar
from aiq_search.space.section import Section
from aiq_search.space.source import Source
from aiq_search.suggest import did_you_mean
from aiq_search.training import TrainingOptions
from aiq_search.training.measures import INT8_ACCURACY

__all__ = ["SpaceFields"]

# Optuna models no more dimensions in a sensible time.
_MOST_PARAMETERS = 500

ParameterName = Annotated[str, Field(pattern=r"^(model|training(\.augment)?)\.[A-Za-z_][A-Za-z0-9_]*$")]


class SpaceFields(Section):
    """The fields of a search-space file.

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

    # The types are for the JSON Schema, which editors read: they see what is written.
    @field_validator("model", mode="before", json_schema_input_type=str | ModelOptions)
    @classmethod
    def _model_by_name(cls, given: Any) -> Any:  # noqa: ANN401
        return by_name(given)

    @field_validator("dataset", mode="before", json_schema_input_type=str | DatasetOptions)
    @classmethod
    def _dataset_by_name(cls, given: Any) -> Any:  # noqa: ANN401
        return by_name(given)

    def error(self, key: Key, message: str) -> SpaceError:
        """What is wrong with a value of the file, and where it is."""
        return self._source.error(key, message)

    @model_validator(mode="after")
    def _check_expressions(self) -> Self:
        """Expressions read earlier parameters only."""
        earlier: list[str] = []
        for name, parameter in self.parameters.items():
            texts = {"when": parameter.when}
            if isinstance(parameter, Derived):
                texts["value"] = parameter.value
            for field, text in texts.items():
                unknown = sorted(parsed(text).names - set(earlier)) if text is not None else []
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
    def _check_enqueued(self) -> Self:
        """Enqueued points belong to the space."""
        for index, point in enumerate(self.enqueue):
            for name, value in point.items():
                parameter = self.parameters.get(name)
                key = ("enqueue", index, name)
                if parameter is None or isinstance(parameter, Derived):
                    raise SpaceError(f"this is not searched; {did_you_mean(name, self.parameters)}", key)
                if not parameter.contains(value):
                    raise SpaceError(f"{shown(value)} is outside its range", key)
        return self

    @model_validator(mode="after")
    def _check_confirmed_measures(self) -> Self:
        """What only confirmations report needs some."""
        if self.objective.confirmed_measures and not self.confirm.confirms:
            raise SpaceError(
                f"{INT8_ACCURACY} is measured on fresh seeds, and the section confirm turns these off; set "
                "confirm.runs above 0",
                ("objective", "constraints"),
            )
        return self

    @model_validator(mode="after")
    def _check_objectives(self) -> Self:
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
    def _check_replicates(self) -> Self:
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
