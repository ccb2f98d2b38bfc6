"""What lies between the products, as kernels: normalisation, pooling, activation and dropout; and the loss.

Pooling the largest and an activation that never falls may change places: `finish` pools first, so that the
activation is computed for what is left. Arrays lie as ``products`` describes it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from aiq_search.training.engines.compiled.arithmetic import (
    above,
    add_bit,
    exp,
    largest,
    no_bits,
    splat,
    where_byte,
)
from aiq_search.training.engines.compiled.compiling import inlined, kernel
from aiq_search.training.engines.compiled.memory import (
    load,
    load_bytes,
    store,
    store_bits,
    store_bytes,
    store_sums,
    transpose_samples,
)
from aiq_search.training.engines.compiled.vectors import (
    LANES,
)

__all__ = [
    "ELU",
    "NONE",
    "RELU",
    "TANH",
    "centred_sums",
    "count_states",
    "cross_entropy",
    "expand",
    "finish",
    "gather",
    "norm_sums",
    "normalise_gradient",
]

NONE, RELU, ELU, TANH = range(4)
_ONE, _TWO = np.float32(1), np.float32(2)


@inlined
def _activate(x, kind, slope):
    zero, one = splat(np.float32(0)), splat(_ONE)
    if kind == RELU:
        return above(x, zero, x, splat(np.float32(slope)) * x)
    if kind == ELU:
        return above(x, zero, x, splat(np.float32(slope)) * (exp(x) - one))
    if kind == TANH:
        return one - splat(_TWO) / (exp(x + x) + one)
    return x


@inlined
def _derivative(y, kind, slope):
    """The derivative of an activation, from what the activation gave."""
    zero, one = splat(np.float32(0)), splat(_ONE)
    if kind == RELU:
        return above(y, zero, one, splat(np.float32(slope)))
    if kind == ELU:
        return above(y, zero, one, y + splat(np.float32(slope)))
    if kind == TANH:
        return one - y * y
    return one


@functools.cache
def gather(kind: str) -> Any:
    """The kernel that copies samples of a kind, uint8 or float32, into lanes."""

    @kernel(kind)
    def gather_samples(raw, starts, features, x, blocks):
        """Copy samples, ``features`` numbers each, into the lanes of ``x``, as float32.

        Args:
            raw: All samples, flat.
            starts: Where the wanted ones begin in ``raw``, for every lane of every block.
            features: Numbers of a sample.
            x: ``(blocks, features, lanes)``, flat.
            blocks: How many.
        """
        whole = features // LANES * LANES
        for n in range(blocks):
            lanes = starts[n * LANES : (n + 1) * LANES]
            for f in range(0, whole, LANES):
                transpose_samples(raw, lanes, f, x, (n * features + f) * LANES)
            for lane in range(LANES):
                for f in range(whole, features):
                    x[(n * features + f) * LANES + lane] = np.float32(raw[lanes[lane] + f])

    return gather_samples


@kernel()
def finish(
    z, z_layout, scale, shift, pool_height, pool_width, places, kind, slope, noise, dropped,
    y, y_layout, blocks, channels, height, width,
):  # fmt: skip
    """``y = dropout(activation(pool(scale * z + shift)))``, with a scale and a shift for each channel.

    Args:
        places: Receives which position of its window was the largest, ``(blocks, channels, height, width)``.
        kind: Which activation, and ``slope``: its slope or alpha below 0.
        noise: What dropout multiplies by, shaped as ``places``, if ``dropped``.
        height: Of ``y``, and ``width`` likewise.
    """
    z_block, z_channel, z_row = z_layout[1], z_layout[2], z_layout[3]
    y_at, y_block, y_channel, y_row = y_layout[0], y_layout[1], y_layout[2], y_layout[3]
    pooled = pool_height * pool_width > 1
    at = 0
    for n in range(blocks):
        for o in range(channels):
            a, b = splat(scale[o]), splat(shift[o])
            for i in range(height):
                here = n * z_block + o * z_channel + i * pool_height * z_row
                to = y_at + n * y_block + o * y_channel + i * y_row
                for _ in range(width):
                    value = load(z, here) * a + b
                    if pooled:
                        place = no_bits()
                        for p in range(pool_height):
                            for q in range(pool_width):
                                other = load(z, here + p * z_row + q * LANES) * a + b
                                value, place = largest(value, place, other, p * pool_width + q)
                        store_bytes(places, at, place)
                    value = _activate(value, kind, slope)
                    if dropped:
                        value = value * load(noise, at)
                    store(y, to, value)
                    at += LANES
                    here += pool_width * LANES
                    to += LANES


@inlined
def _gradient(gradient, at, y, y_at, kind, slope, noise, keep, dropped):
    """The gradient before activation and dropout, from the one behind them."""
    value, result = load(gradient, at), load(y, y_at)
    if dropped:
        value = value * load(noise, at)
        result = result * splat(np.float32(keep))
    return value * _derivative(result, kind, slope)


@kernel()
def expand(
    gradient, y, y_layout, kind, slope, noise, keep, dropped, pool_height, pool_width, places,
    dz, dz_layout, bias, blocks, channels, height, width,
):  # fmt: skip
    """The gradient at every position before pooling, from that of ``y``.

    Args:
        gradient: ``(blocks, channels, height, width)``.
        keep: The share that dropout keeps.
        dz: Receives the result; what no window covers is left as it is.
        bias: The sum over samples and positions is added to it, by channel.
    """
    y_at, y_block, y_channel, y_row = y_layout[0], y_layout[1], y_layout[2], y_layout[3]
    dz_at, dz_block, dz_channel, dz_row, dz_column = (
        dz_layout[0], dz_layout[1], dz_layout[2], dz_layout[3], dz_layout[4],
    )  # fmt: skip
    sums = np.empty(LANES, np.float32)
    at = 0
    for n in range(blocks):
        for o in range(channels):
            total = splat(np.float32(0))
            for i in range(height):
                there = y_at + n * y_block + o * y_channel + i * y_row
                to = dz_at + n * dz_block + o * dz_channel + i * pool_height * dz_row
                for _ in range(width):
                    value = _gradient(gradient, at, y, there, kind, slope, noise, keep, dropped)
                    total = total + value
                    if pool_height * pool_width > 1:
                        place = load_bytes(places, at)
                        for p in range(pool_height):
                            for q in range(pool_width):
                                here = where_byte(place, p * pool_width + q, value)
                                store(dz, to + p * dz_row + q * dz_column, here)
                    else:
                        store(dz, to, value)
                    at += LANES
                    there += LANES
                    to += pool_width * dz_column
            store_sums(sums, (total,))
            bias[o] += sums[0]


@kernel()
def norm_sums(
    gradient, y, y_layout, kind, slope, noise, keep, dropped, pool_height, pool_width, places,
    z, z_layout, mean, plain, centred, blocks, channels, height, width,
):  # fmt: skip
    """What the gradient of a batch norm needs first, by channel: the sums of dz and of dz (z - mean)."""
    y_at, y_block, y_channel, y_row = y_layout[0], y_layout[1], y_layout[2], y_layout[3]
    z_block, z_channel, z_row = z_layout[1], z_layout[2], z_layout[3]
    sums = np.empty(LANES, np.float32)
    for o in range(channels):
        plain[o] = 0
        centred[o] = 0
        middle = splat(mean[o])
        for n in range(blocks):
            total = splat(np.float32(0))
            product = splat(np.float32(0))
            for i in range(height):
                at = ((n * channels + o) * height + i) * width * LANES
                there = y_at + n * y_block + o * y_channel + i * y_row
                here = n * z_block + o * z_channel + i * pool_height * z_row
                for _ in range(width):
                    value = _gradient(gradient, at, y, there, kind, slope, noise, keep, dropped)
                    total = total + value
                    if pool_height * pool_width > 1:
                        place = load_bytes(places, at)
                        for p in range(pool_height):
                            for q in range(pool_width):
                                part = where_byte(place, p * pool_width + q, value)
                                product = product + part * (load(z, here + p * z_row + q * LANES) - middle)
                    else:
                        product = product + value * (load(z, here) - middle)
                    at += LANES
                    there += LANES
                    here += pool_width * LANES
            store_sums(sums, (total, product))
            plain[o] += sums[0]
            centred[o] += sums[1]


@kernel()
def normalise_gradient(
    dz, dz_layout, z, z_layout, mean, factor, plain, centred, used, bias, blocks, channels, height, width
):
    """``dz = factor (dz - plain - centred (z - mean))`` at all positions, as batch norm's gradient is."""
    dz_at, dz_block, dz_channel, dz_row, dz_column = (
        dz_layout[0], dz_layout[1], dz_layout[2], dz_layout[3], dz_layout[4],
    )  # fmt: skip
    z_block, z_channel, z_row = z_layout[1], z_layout[2], z_layout[3]
    sums = np.empty(LANES, np.float32)
    for n in range(blocks):
        lanes = load(used, n * LANES)
        for o in range(channels):
            middle, by = splat(mean[o]), splat(factor[o]) * lanes
            less, slope = splat(plain[o]), splat(centred[o])
            total = splat(np.float32(0))
            for i in range(height):
                here = n * z_block + o * z_channel + i * z_row
                to = dz_at + n * dz_block + o * dz_channel + i * dz_row
                for _ in range(width):
                    value = (load(dz, to) - less - slope * (load(z, here) - middle)) * by
                    total = total + value
                    store(dz, to, value)
                    here += LANES
                    to += dz_column
            store_sums(sums, (total,))
            bias[o] += sums[0]


@kernel()
def centred_sums(z, z_layout, centre, power, used, result, blocks, channels, height, width):
    """Add up ``(z - centre) ** power``, power 1 or 2, over samples and positions, by channel.

    Args:
        used: 1 for each lane that holds a sample, else 0: ``(blocks, lanes)``.
        result: Receives the sums, float64.
    """
    z_block, z_channel, z_row = z_layout[1], z_layout[2], z_layout[3]
    sums = np.empty(LANES, np.float32)
    for o in range(channels):
        result[o] = 0
        middle = splat(centre[o])
        for n in range(blocks):
            total = splat(np.float32(0))
            for i in range(height):
                here = n * z_block + o * z_channel + i * z_row
                for _ in range(width):
                    value = load(z, here) - middle
                    total = total + (value * value if power == 2 else value)
                    here += LANES
            store_sums(sums, (total * load(used, n * LANES),))
            result[o] += sums[0]


@kernel()
def cross_entropy(z, labels, gradient, samples, classes, learn, smoothing):
    """The sum of the samples' cross entropies, and how many have the largest output at their label.

    Args:
        z: ``(blocks, classes, lanes)``.
        labels: One a sample.
        gradient: Receives the gradient of the mean, if ``learn``; 0 in lanes without a sample.
        smoothing: Share of each label that is spread over all classes.
    """
    loss = 0.0
    right = 0
    share = np.float32(1 / samples)
    of_label, of_each = np.float32((1 - smoothing) / samples), np.float32(smoothing / samples / classes)
    highest, total = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for n in range((samples + LANES - 1) // LANES):
        first = n * classes * LANES
        most = load(z, first)
        for k in range(1, classes):
            value = load(z, first + k * LANES)
            most = above(value, most, value, most)
        powers = splat(np.float32(0))
        for k in range(classes):
            power = exp(load(z, first + k * LANES) - most)
            powers = powers + power
            if learn:
                store(gradient, first + k * LANES, power)
        store(highest, 0, most)
        store(total, 0, powers)
        if learn:
            by = splat(share) / powers
            for k in range(classes):
                store(gradient, first + k * LANES, load(gradient, first + k * LANES) * by)
        for lane in range(LANES):
            sample = n * LANES + lane
            if sample < samples:
                at = first + labels[sample] * LANES + lane
                loss += math.log(total[lane]) + highest[lane] - z[at]
                if learn:
                    gradient[at] -= of_label
                if smoothing > 0:
                    mean = 0.0
                    for k in range(classes):
                        mean += z[first + k * LANES + lane] / classes
                        if learn:
                            gradient[first + k * LANES + lane] -= of_each
                    loss += smoothing * (z[at] - mean)
                best = 0
                for k in range(1, classes):
                    if z[first + k * LANES + lane] > z[first + best * LANES + lane]:
                        best = k
                right += best == labels[sample]
            elif learn:
                for k in range(classes):
                    gradient[first + k * LANES + lane] = 0
    return loss, right


@kernel()
def count_states(z, z_layout, counts, parts, samples, channels, height, width):
    """Count the states of a layer: bit ``o`` of a state is set where channel ``o`` is above 0.

    Args:
        counts: Added to; ``(parts, 2 ** channels)``, flat. There are several parts, a power of 2, because
            two counts of the same state wait for each other.
    """
    z_block, z_channel, z_row = z_layout[1], z_layout[2], z_layout[3]
    states = np.empty(LANES, np.uint32)
    for n in range((samples + LANES - 1) // LANES):
        used = min(LANES, samples - n * LANES)
        for i in range(height):
            for j in range(width):
                here = n * z_block + i * z_row + j * LANES
                bits = no_bits()
                for o in range(channels):
                    bits = add_bit(bits, load(z, here + o * z_channel), o)
                store_bits(states, 0, bits)
                for lane in range(used):
                    counts[((lane & (parts - 1)) << channels) + states[lane]] += 1
