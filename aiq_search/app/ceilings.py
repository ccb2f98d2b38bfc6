"""How much efficiency the layers of a trial's network can show at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aiq_search.study import Study, TrialRecord

__all__ = ["LayerCeiling", "layer_ceilings"]


@dataclass(frozen=True)
class LayerCeiling:
    """What bounds a layer's efficiency on the validation split.

    Attributes:
        neurons: C of them.
        observations: N states are counted: one a sample, of a convolution one a position of each sample.
    """

    neurons: int
    observations: int

    @property
    def efficiency(self) -> float:
        """``min(1, log2(N) / C)``: the entropy of N observations cannot exceed log2 N bits.

        >>> round(LayerCeiling(100, 10_000).efficiency, 3), LayerCeiling(8, 10_000).efficiency
        (0.133, 1.0)
        """
        return min(1.0, math.log2(self.observations) / self.neurons) if self.observations > 1 else 1.0


def layer_ceilings(study: Study, record: TrialRecord) -> dict[str, LayerCeiling]:
    """The ceilings of a trial's measured layers, by name.

    Args:
        study: The study.
        record: One of its trials.

    Raises:
        AiqError: The network cannot be built here.
    """
    from aiq_search.models import layer_outputs  # torch: a look at a study must not wait for it

    dataset = study.document.dataset
    outputs = layer_outputs(study.architecture(record.params).build(), dataset.input_shape)
    return {
        name: LayerCeiling(neurons, places * dataset.validation)
        for name, (neurons, places) in outputs.items()
        if f"efficiency/{name}" in record.metrics
    }
