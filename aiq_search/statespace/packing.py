"""From activations to states: one bit a neuron, set where its output is strictly above 0.

A state of C neurons is ``ceil(C / 64)`` words of 64 bits, neuron ``i`` at bit ``i % 64`` of word ``i // 64``,
unused bits 0. Zero, -0.0, negative numbers and NaN are off.
"""

import torch

__all__ = ["as_planes", "pack_states", "words_for"]


def words_for(neurons: int) -> int:
    """Number of 64-bit words of a state."""
    return -(-neurons // 64)


def as_planes(activations: torch.Tensor, axis: int) -> torch.Tensor:
    """View activations as ``(outer, neurons, inner)``, without a copy where the strides allow it.

    Args:
        activations: Any shape; every axis but one counts observations.
        axis: The neurons' axis.
    """
    axis %= activations.ndim
    neurons = activations.shape[axis]
    if axis != activations.ndim - 1 and not activations.is_contiguous():
        last = activations.movedim(axis, -1)
        if last.is_contiguous():  # channels_last: rows of neurons, as in a linear layer
            return last.reshape(-1, neurons, 1)
    outer = 1
    for length in activations.shape[:axis]:
        outer *= length
    inner = 1
    for length in activations.shape[axis + 1 :]:
        inner *= length
    return activations.reshape(outer, neurons, inner)


def pack_states(planes: torch.Tensor) -> torch.Tensor:
    """States of all observations, in the order of the observations.

    Args:
        planes: ``(outer, neurons, inner)``, of any real type, on any device.

    Returns:
        int64, shape ``(outer * inner, words)``, on the same device.
    """
    outer, neurons, inner = planes.shape
    words = words_for(neurons)
    packed = torch.zeros((words, outer, inner), dtype=torch.int64, device=planes.device)
    for neuron in range(neurons):
        packed[neuron // 64] |= (planes[:, neuron] > 0).to(torch.int64) << (neuron % 64)
    return packed.reshape(words, outer * inner).T.contiguous()
