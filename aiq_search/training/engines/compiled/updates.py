"""The steps of the optimizers, as torch takes them, over all parameters at once."""

from __future__ import annotations

import math

import numpy as np

from aiq_search.training.engines.compiled.compiling import kernel

__all__ = ["adam", "sgd"]


@kernel()
def sgd(weights, gradient, velocity, rate, momentum, decay, nesterov):
    """Stochastic gradient descent; without momentum, ``velocity`` is not touched."""
    rate32, momentum32, decay32 = np.float32(rate), np.float32(momentum), np.float32(decay)
    for i in range(weights.size):
        step = gradient[i] + decay32 * weights[i]
        if momentum > 0:
            velocity[i] = momentum32 * velocity[i] + step
            step = step + momentum32 * velocity[i] if nesterov else velocity[i]
        weights[i] -= rate32 * step


@kernel()
def adam(weights, gradient, mean, square, steps, rate, decay, decoupled):
    """Adam (Kingma and Ba, 2015), or AdamW (Loshchilov and Hutter, 2019) if ``decoupled``; torch's betas."""
    first, second, tiny = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
    new_first, new_second = np.float32(1 - 0.9), np.float32(1 - 0.999)
    length = np.float32(rate / (1 - 0.9**steps))
    root = np.float32(math.sqrt(1 - 0.999**steps))
    decay32, shrink = np.float32(decay), np.float32(rate * decay)
    for i in range(weights.size):
        step = gradient[i]
        if decoupled:
            weights[i] -= shrink * weights[i]
        else:
            step += decay32 * weights[i]
        mean[i] = first * mean[i] + new_first * step
        square[i] = second * square[i] + new_second * step * step
        weights[i] -= length * mean[i] / (np.sqrt(square[i]) / root + tiny)
