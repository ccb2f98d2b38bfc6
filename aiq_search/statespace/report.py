"""The state-space report of a network: its numbers, and their limits."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aiq_search.statespace.entropy import aiq, network_efficiency

if TYPE_CHECKING:
    import pandas as pd

    from aiq_search.statespace.counts import NeuronGroup, StateCounts

__all__ = ["EfficiencyReport", "LayerReport"]

# Above this fraction of observations whose state was seen once, the entropy depends on the sample's size.
_SEEN_ONCE_LIMIT = 0.3
# From this fraction of the ceiling on, a layer counts as saturated.
_SATURATION = 0.95


@dataclass(frozen=True)
class LayerReport:
    """What was measured of one layer.

    Attributes:
        name: As in ``named_modules``.
        type: Class of the module.
        neurons: Number of neurons.
        observations: Number of states counted, N.
        distinct: Number of different states.
        seen_once: Fraction of the observations whose state was seen once only.
        entropy: In bits.
        ceiling: The largest efficiency that N observations can show: ``min(1, log2(N) / neurons)``.
        efficiency: Entropy over neurons.
        always_off: Neurons that never fired.
        always_on: Neurons that always fired.
        groups: Groups of neurons in perfect sync or opposition.
        sampled: Fraction of the observations that was kept; 1 unless a byte budget forced a sample.
    """

    name: str
    type: str
    neurons: int
    observations: int
    distinct: int
    seen_once: float
    entropy: float
    ceiling: float
    efficiency: float
    always_off: tuple[int, ...]
    always_on: tuple[int, ...]
    groups: tuple[NeuronGroup, ...]
    sampled: float = 1.0

    @classmethod
    def of(cls, name: str, kind: str, counts: StateCounts) -> LayerReport:
        """The report of counted states."""
        return cls(
            name=name,
            type=kind,
            neurons=counts.neurons,
            observations=counts.observations,
            distinct=counts.distinct,
            seen_once=counts.seen_once,
            entropy=counts.entropy,
            ceiling=counts.ceiling,
            efficiency=counts.efficiency,
            always_off=counts.always_off,
            always_on=counts.always_on,
            groups=counts.groups,
            sampled=counts.sampled,
        )

    def to_dict(self) -> dict[str, Any]:
        """The layer as a JSON document."""
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document["always_off"] = list(self.always_off)
        document["always_on"] = list(self.always_on)
        document["groups"] = [
            {"neurons": list(group.neurons), "opposed": list(group.opposed)} for group in self.groups
        ]
        return document

    def warnings(self) -> list[str]:
        """What a reader of the efficiency must know, one sentence each."""
        sentences = []
        if self.entropy == 0:
            sentences.append(
                f"Layer {self.name!r} is collapsed: all {self.observations:,} observations are in one state, "
                "so that the network's efficiency is 0."
            )
        elif self.ceiling < 1 and self.efficiency >= _SATURATION * self.ceiling:
            needed = f"2^{self.neurons}" if self.neurons > 40 else f"{2**self.neurons:,}"
            sentences.append(
                f"Layer {self.name!r} is saturated: its efficiency of {self.efficiency:.3f} is at the "
                f"ceiling log2(N) / neurons = {self.ceiling:.3f} of N = {self.observations:,} observations, "
                f"and depends more on N than on the layer (a ceiling of 1 needs {needed} observations)."
            )
        elif self.seen_once > _SEEN_ONCE_LIMIT:
            sentences.append(
                f"Layer {self.name!r} has few observations: {self.seen_once:.0%} of them are in a state seen "
                "only once, so that its entropy is underestimated. Compare it only at the same N."
            )
        if self.sampled < 1:
            sentences.append(
                f"Layer {self.name!r} is an estimate: a random {self.sampled:.3g} of its observations was "
                "kept to stay within the byte budget."
            )
        return sentences


@dataclass(frozen=True)
class EfficiencyReport:
    """State-space efficiency of a network, and what it rests on.

    Attributes:
        layers: The hidden layers.
        beta: Weight of the accuracy in aIQ.
        accuracy: Fraction of right answers, if known.
        point: Where states were read: "after" or "before" each layer.
        order: Order of the entropy; 1 is Shannon's, the paper's.
        output_layer: The layer that was left out as the output layer, if one was.
    """

    layers: tuple[LayerReport, ...]
    beta: float = 2.0
    accuracy: float | None = None
    point: str = "after"
    order: float = 1.0
    output_layer: str | None = None

    @cached_property
    def efficiency(self) -> float:
        """Geometric mean of the layers' efficiencies; 0 if a layer is collapsed."""
        return network_efficiency(layer.efficiency for layer in self.layers)

    @property
    def aiq(self) -> float | None:
        """The network's aIQ, if its accuracy is known."""
        return None if self.accuracy is None else aiq(self.accuracy, self.efficiency, self.beta)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers must know, one sentence each."""
        return tuple(sentence for layer in self.layers for sentence in layer.warnings())

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON document; an infinite order is the string "inf"."""
        return {
            "efficiency": self.efficiency,
            "accuracy": self.accuracy,
            "beta": self.beta,
            "aiq": self.aiq,
            "point": self.point,
            "order": "inf" if math.isinf(self.order) else self.order,
            "output_layer": self.output_layer,
            "layers": [layer.to_dict() for layer in self.layers],
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row a layer: lists of neurons become their lengths, groups their number."""
        rows = []
        for layer in self.layers:
            row = layer.to_dict()
            for name in ("always_off", "always_on", "groups"):
                row[name] = len(row[name])
            rows.append(row)
        return rows

    def to_frame(self) -> pd.DataFrame:
        """The layers as a pandas frame, indexed by name."""
        import pandas as pd

        return pd.DataFrame(self.rows()).set_index("name")

    def __str__(self) -> str:
        """The report as a plain text table, warnings last."""
        lines = [*_text_table(self.rows()), ""]
        numbers = [("efficiency", self.efficiency), ("accuracy", self.accuracy), ("beta", self.beta)]
        numbers.append(("aIQ", self.aiq))
        lines.append("  ".join(f"{name} {value:.4g}" for name, value in numbers if value is not None))
        lines += [f"Warning: {sentence}" for sentence in self.warnings]
        return "\n".join(lines)


def _text_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    shown = [name for name in rows[0] if name != "sampled"]
    cells = [[name.replace("_", " ") for name in shown]]
    for row in rows:
        values = [row[name] for name in shown]
        cells.append(
            [f"{v:.4f}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v for v in values]
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(shown))]
    text = {"name", "type"}
    return [
        "  ".join(
            cell.ljust(width) if name in text else cell.rjust(width)
            for cell, width, name in zip(line, widths, shown, strict=True)
        ).rstrip()
        for line in cells
    ]
