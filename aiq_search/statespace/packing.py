"""From activations to states: one bit a neuron, set where its output is strictly above 0.

A state of C neurons is ``ceil(C / 64)`` words of 64 bits, neuron ``i`` at bit ``i % 64`` of word ``i // 64``,
unused bits 0. Zero, -0.0, negative numbers and NaN are off.
"""

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["as_planes", "pack_states", "packable", "words_for"]

# Comparisons of these types are vectorised in numpy, several times faster than in torch (2.15, AVX-512).
_NUMPY_COMPARES = {torch.float32, torch.float64, torch.int32, torch.int64}
# Below this many positions a plane is too short for one operation a neuron; a transposed copy of the bits is
# faster (measured for 20 to 128 neurons).
_SHORT_PLANE = 64
# Bytes of bits that are unpacked at one time: small enough for the cache and for the memory goal.
_CHUNK = 1 << 22


def words_for(neurons: int) -> int:
    """Number of 64-bit words of a state."""
    return -(-neurons // 64)


def packable(activations: torch.Tensor) -> bool:
    """Whether the values can be compared with 0: a dense tensor of real numbers that holds data."""
    return (
        activations.layout == torch.strided
        and not activations.is_complex()
        and not activations.is_meta
        and not activations.is_quantized
    )


def as_planes(activations: torch.Tensor, axis: int) -> torch.Tensor:
    """View activations as ``(outer, neurons, inner)``, without a copy where the strides allow it.

    Args:
        activations: Any shape; every axis but one counts observations.
        axis: The neurons' axis.

    Returns:
        A contiguous tensor. ``inner`` is 1 where the neurons of an observation lie side by side, as in a
        linear layer or a channels-last convolution. The order of the observations may differ from the
        given one; counting does not depend on it.
    """
    axis %= activations.ndim
    shape = activations.shape
    neurons = shape[axis]
    if not activations.is_contiguous():
        last = activations.movedim(axis, -1)
        if last.is_contiguous():
            return last.reshape(last.numel() // neurons, neurons, 1)
        activations = activations.contiguous()
    return activations.view(shape[:axis].numel(), neurons, shape[axis + 1 :].numel())


def pack_states(planes: torch.Tensor) -> torch.Tensor:
    """States of all observations, on the device of the activations.

    Args:
        planes: ``(outer, neurons, inner)``, contiguous, of any real type.

    Returns:
        int64, shape ``(outer * inner, words)``.
    """
    outer, neurons, inner = planes.shape
    cpu = planes.device.type == "cpu"
    # On a device the bits of a state are unpacked to 8 bytes each.
    step = max(1, _CHUNK // (64 * words_for(neurons) * inner) * (1 if cpu else 8))
    if outer > step:
        return torch.cat([pack_states(part) for part in torch.split(planes, step)])
    if not cpu:
        return _pack_on_device(planes)
    on = np.greater(planes.numpy(), 0) if planes.dtype in _NUMPY_COMPARES else (planes > 0).numpy()
    if inner >= _SHORT_PLANE:
        return _pack_planes(on)
    return torch.from_numpy(_pack_rows(on.reshape(outer, neurons) if inner == 1 else on.swapaxes(1, 2)))


def _pack_rows(on: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Pack bits whose last axis is the neurons' into ``(observations, words)``."""
    neurons = on.shape[-1]
    width = 8 if neurons <= 8 else 64 * words_for(neurons)
    if neurons != width:
        padded = np.zeros((*on.shape[:-1], width), dtype=np.bool_)
        padded[..., :neurons] = on
        on = padded
    packed = np.packbits(on.reshape(-1), bitorder="little")
    if width == 8:
        return packed.astype(np.int64).reshape(-1, 1)
    return packed.view("<i8").astype(np.int64, copy=False).reshape(-1, width // 64)


def _pack_planes(on: npt.NDArray[np.bool_]) -> torch.Tensor:
    """Pack ``(outer, neurons, inner)`` bits, one addition a neuron over all positions at once."""
    outer, neurons, inner = on.shape
    bits = torch.from_numpy(on.view(np.uint8))
    packed = torch.zeros((outer, inner, 8 * words_for(neurons)), dtype=torch.uint8)
    for first in range(0, neurons, 8):
        byte = bits[:, first].clone()
        for neuron in range(first + 1, min(first + 8, neurons)):
            byte.add_(bits[:, neuron], alpha=1 << (neuron - first))
        packed[:, :, first // 8] = byte
    words = packed.numpy().view("<i8").astype(np.int64, copy=False)
    return torch.from_numpy(words.reshape(outer * inner, -1))


def _pack_on_device(planes: torch.Tensor) -> torch.Tensor:
    """Pack with few operations of any size, for devices on which each operation is a launch."""
    outer, neurons, inner = planes.shape
    words = words_for(neurons)
    on = torch.zeros((outer, 64 * words, inner), dtype=torch.int64, device=planes.device)
    on[:, :neurons] = planes > 0
    shifts = torch.arange(64, device=planes.device).view(1, 1, 64, 1)
    # Each bit is in one term only, so that the sum is their union, the sign bit included.
    packed = (on.view(outer, words, 64, inner) << shifts).sum(dim=2)
    return packed.transpose(1, 2).reshape(outer * inner, words)
