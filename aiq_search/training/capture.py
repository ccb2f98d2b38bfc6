"""Which states of a network are captured: ``objective.capture`` of a space file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CaptureField", "CaptureOptions"]

_MOST = 1000  # selectors, or layers with an output or an axis of their own

Selector = Annotated[str, Field(min_length=1, max_length=200)]
Selectors = Annotated[tuple[Selector, ...], Field(strict=False, max_length=_MOST)]


class CaptureOptions(BaseModel):
    """Which layers are measured, where, and by which entropy.

    Attributes:
        layers: Names of layers, patterns of names (``encoder.*``) or names of their classes (``LSTM``); none:
            every hidden linear layer and convolution.
        exclude: Which of them to leave out, likewise.
        point: Whether a layer's output is read (after) or its input (before).
        output: Which output of a layer that returns several: a position or a key; one, or one a layer.
        axis: The axis of the neurons where a layer's class does not determine it; one, or one a layer.
        order: Order of the entropy, inf included; 1 is Shannon's.

    Example:
        >>> str(CaptureOptions())
        'after each hidden layer'
        >>> str(CaptureOptions(layers=["LSTM", "fc*"], exclude=["fc2"], order=2.0))
        'after LSTM and fc* but not fc2, entropy of order 2'
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    layers: Selectors = ()
    exclude: Selectors = ()
    point: Literal["after", "before"] = "after"
    output: int | str | Annotated[dict[str, int | str], Field(max_length=_MOST)] = 0
    axis: int | Annotated[dict[str, int], Field(max_length=_MOST)] | None = None
    order: Annotated[float, Field(ge=0)] | Literal["inf"] = 1.0

    @property
    def by_default(self) -> bool:
        """Whether the layers are those that are measured by default."""
        return not self.layers

    def keywords(self) -> dict[str, Any]:
        """The options as `StateCapture` takes them."""
        return {
            "layers": self.layers or None,
            "exclude": self.exclude,
            "point": self.point,
            "output": self.output,
            "axis": self.axis,
            "order": float(self.order),
        }

    def fitting(self, model: nn.Module) -> CaptureOptions:
        """The options without what no layer of this network answers to.

        The networks of a search have different layers: a third convolution, for one, only where there are
        three stages. Where none of ``layers`` is there, all of them stay, and capturing raises an error.
        """
        from aiq_search.statespace.selection import takes  # torch, which a space file need not wait for

        layers = tuple(selector for selector in self.layers if takes(model, selector))
        exclude = tuple(selector for selector in self.exclude if takes(model, selector))
        return self.model_copy(update={"layers": layers or self.layers, "exclude": exclude})

    def selected(self, model: nn.Module) -> dict[str, nn.Module]:
        """The layers of this network that are selected, by name; by default the output layer among them.

        Raises:
            InputError: None of ``layers`` is there.
        """
        from aiq_search.statespace.selection import default_layers, select_layers

        here = self.fitting(model)
        chosen = default_layers(model) if self.by_default else select_layers(model, here.layers)
        left_out = select_layers(model, here.exclude) if here.exclude else {}
        return {name: module for name, module in chosen.items() if name not in left_out}

    def __str__(self) -> str:
        parts = [f"{self.point} {_listed(self.layers) if self.layers else 'each hidden layer'}"]
        parts[0] += f" but not {_listed(self.exclude)}" if self.exclude else ""
        for name, value in (("output", self.output), ("axis", self.axis)):
            if isinstance(value, dict):
                parts += [f"{name} {one} of {layer}" for layer, one in value.items()]
            elif value != type(self).model_fields[name].default:
                parts.append(f"{name} {value}")
        parts += [] if self.order == 1 else [f"entropy of order {float(self.order):g}"]
        return ", ".join(parts)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _by_point(given: Any) -> Any:  # noqa: ANN401 - what a file has
    return {"point": given} if isinstance(given, str) else given


# A mapping; or after or before alone.
CaptureField: TypeAlias = Annotated[
    CaptureOptions,
    BeforeValidator(_by_point, json_schema_input_type=Literal["after", "before"] | CaptureOptions),
]
