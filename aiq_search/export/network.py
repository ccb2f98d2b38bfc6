"""The network with its preprocessing inside: raw inputs in, logits and probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aiq_search.export.documents import PreprocessingDocument

__all__ = ["StandaloneNetwork", "raw_dtype"]


class StandaloneNetwork(nn.Module):
    """What pt2 and ONNX hold: normalisation, network, softmax.

    Args:
        network: On normalised inputs.
        preprocessing: Type and shape of a raw input, and its normalisation.

    Example:
        >>> raw = PreprocessingDocument(
        ...     input_dtype="uint8", input_shape=(2,), scale=(0.5, 0.5), shift=(0, -1), classes=("a", "b"),
        ...     training_range=(0, 9),
        ... )
        >>> outputs = StandaloneNetwork(nn.Identity(), raw)(torch.tensor([[4, 2]], dtype=torch.uint8))
        >>> outputs["logits"].tolist()
        [[2.0, 0.0]]
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocessing: PreprocessingDocument) -> None:
        super().__init__()
        self.network = network
        shape = (-1, *[1] * (len(preprocessing.input_shape) - 1))
        normalization = preprocessing.normalization
        for name, numbers in (("scale", normalization.scale), ("shift", normalization.shift)):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float32).reshape(shape))
        self.eval()

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Logits and probabilities, (N, classes), of raw inputs (N, *input_shape)."""
        logits = self.network(inputs.float() * self.scale + self.shift)
        return {"logits": logits, "probabilities": logits.softmax(1)}


def raw_dtype(preprocessing: PreprocessingDocument) -> torch.dtype:
    """The torch name of the type of a raw input."""
    return torch.uint8 if preprocessing.input_dtype == "uint8" else torch.float32
