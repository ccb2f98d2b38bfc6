"""Which layers the networks of a space have, of those that are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from aiq_search.models import layer_outputs
from aiq_search.space.constraint import EFFICIENCY_OF
from aiq_search.space.errors import Key, shown
from aiq_search.statespace.selection import known_selectors, takes
from aiq_search.suggest import did_you_mean
from aiq_search.training.capture import CaptureOptions

if TYPE_CHECKING:
    from torch import nn

    from aiq_search.space.schema import SearchSpace

__all__ = ["check_layers", "measured_layers"]


def check_layers(
    space: SearchSpace,
    networks: list[nn.Module],
    more: Callable[[], list[nn.Module]],
    input_shape: tuple[int, ...],
) -> None:
    """Check that each layer that is captured, or whose efficiency is bounded, is in some network.

    Args:
        space: The space.
        networks: Its narrowest and its widest network.
        more: Builds others: a layer may be in neither of these, but between them or under another choice.
        input_shape: Shape of one sample.

    Raises:
        SpaceError: No network has it.
    """
    capture = space.objective.capture
    named = _named(capture)
    bounded = {
        constraint.name.removeprefix(EFFICIENCY_OF)
        for constraint in space.objective.number_constraints
        if constraint.name.startswith(EFFICIENCY_OF)
    }
    if _missing(named, networks) or (bounded and bounded - measured_layers(networks, input_shape, capture)):
        networks = [*networks, *more()]
    for key in _missing(named, networks):
        known = {name for each in networks for name in known_selectors(each)}
        raise space.error(
            ("objective", "capture", *key),
            f"no network of the space has a layer {shown(named[key])}; {did_you_mean(named[key], known)}",
        )
    if not bounded:
        return
    layers = measured_layers(networks, input_shape, capture)
    for layer in sorted(bounded - layers):
        raise space.error(
            ("objective", "constraints"),
            f"no network of the space has a hidden layer {shown(layer)}, whose "
            f"{EFFICIENCY_OF}{shown(layer, quoted=False)} could be bounded; {did_you_mean(layer, layers)}",
        )


def _named(capture: CaptureOptions) -> dict[Key, str]:
    """The layers that a capture names, by the place of each."""
    named: dict[Key, str] = {}
    for field in ("layers", "exclude"):
        named |= {(field, index): name for index, name in enumerate(getattr(capture, field))}
    for field in ("output", "axis"):
        if isinstance(by_layer := getattr(capture, field), Mapping):
            named |= {(field, layer): layer for layer in by_layer}
    return named


def _missing(named: Mapping[Key, str], networks: Sequence[nn.Module]) -> list[Key]:
    """The places of names that no layer of any network answers to."""
    return [key for key, name in named.items() if not any(takes(each, name) for each in networks)]


def measured_layers(
    networks: Iterable[nn.Module], input_shape: tuple[int, ...], capture: CaptureOptions
) -> set[str]:
    """The layers whose efficiency any of the networks reports: by default all but the one that runs last."""
    names: set[str] = set()
    for each in networks:
        output = list(layer_outputs(each, input_shape))[-1:] if capture.by_default else ()
        if capture.by_default or any(takes(each, selector) for selector in capture.layers):
            names |= capture.selected(each).keys() - set(output)
    return names
