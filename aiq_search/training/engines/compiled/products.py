"""The products of a network, as kernels: convolutions, matrix products, and the gradients of their weights.

Activations lie as ``(block, channel, row, column, lane)``: a lane holds one sample, a block ``LANES`` of
them, so that any width of a network keeps all lanes busy. Weights are numbers by which a whole vector is
multiplied. A kernel adds up a block of vectors in registers: some channels, the ``rows``, by four positions
or by some filter taps, the ``columns``. There is a kernel for each size of that block; `groups` parts the
channels of a layer among them.

With an array comes its layout, as of `Planes.layout`: where the first number is, and the distances, in
numbers, between successive blocks, channels, rows and columns.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from aiq_search.training.engines.compiled.arithmetic import (
    block,
    outer,
)
from aiq_search.training.engines.compiled.compiling import kernel
from aiq_search.training.engines.compiled.memory import (
    corners,
    loads,
    loads_at,
    splats,
    store_block,
    store_largest,
    store_sums,
    tap_offsets,
)
from aiq_search.training.engines.compiled.vectors import (
    LANES,
    ROWS,
)

__all__ = ["TAPS", "convolve", "convolve_weights", "groups", "multiply", "multiply_weights", "pack"]

TAPS = 5
"""Filter taps of a block of sums; a row of the filters of LeNet."""


def groups(channels: int) -> Iterator[tuple[int, int, int]]:
    """Part the channels of a layer among the kernels: rows of the kernel, first channel, one behind the last.

    >>> list(groups(0))
    []
    """
    first, rows = 0, ROWS
    while first < channels:
        if last := first + (channels - first) // rows * rows:
            if last > first:
                yield rows, first, last
            first = last
        rows //= 2


@kernel()
def pack(weights, packed, outs, ins, taps, out_step, in_step, flip):
    """Copy a convolution's weights into the order in which `convolve` reads them.

    Args:
        weights: The weights, flat.
        packed: Where to; group by group, the channel of the output fastest.
        outs: Channels that the convolution gives.
        ins: Channels that it reads.
        taps: Positions of the filter.
        out_step: Distance in ``weights`` from one of ``outs`` to the next.
        in_step: Likewise of ``ins``.
        flip: Whether the filter is turned round, as for the gradient of the input.
    """
    first = 0
    to = 0
    while first < outs:
        rows = ROWS
        while rows > outs - first:
            rows //= 2
        for channel in range(ins):
            for t in range(taps):
                tap = taps - 1 - t if flip else t
                for row in range(first, first + rows):
                    packed[to] = weights[row * out_step + channel * in_step + tap]
                    to += 1
        first += rows


@functools.cache
def convolve(rows: int) -> Any:
    """The kernel of a convolution for ``rows`` channels of its output at a time."""
    size = 4 * rows

    @kernel(rows)
    def convolve_rows(
        x, x_whole, x_top, x_left, x_height, x_width, ins, filter_height, filter_width, stride, packed, bias,
        z, z_layout, places, blocks, first, last, height, width, pooled,
    ):  # fmt: skip
        """Convolve; if ``pooled``, keep of every 2 x 2 outputs the largest and which it was.

        Taps that would meet nothing but the zeros around ``x`` are left out: what is not zero begins at row
        ``x_top`` and column ``x_left``, and is ``x_height`` by ``x_width``.
        """
        x_block, x_channel, x_row = x_whole[1], x_whole[2], x_whole[3]
        z_block, z_channel, z_row = z_layout[1], z_layout[2], z_layout[3]
        # Where the output is odd, or a single row or column, its last positions are computed twice.
        down, right = min(1, height - 1), min(1, width - 1)
        x_down, x_right = stride * down * x_row, stride * right * LANES
        for n in range(blocks):
            for pair in range(height // 2 if pooled else (height + 1) // 2):
                i = min(2 * pair, height - 1 - down)
                top = max(0, x_top - stride * (i + down))
                bottom = min(filter_height, x_top + x_height - stride * i)
                for o in range(first, last, rows):
                    biases = splats(bias, o, 1, block(rows))
                    to = n * z_block + o * z_channel
                    for half in range(width // 2 if pooled else (width + 1) // 2):
                        j = min(2 * half, width - 1 - right)
                        left = max(0, x_left - stride * (j + right))
                        end = min(filter_width, x_left + x_width - stride * j)
                        plane = n * x_block + (stride * i + top) * x_row + (stride * j + left) * LANES
                        taps = (o * ins * filter_height + top * rows) * filter_width + left * rows
                        totals = block(size)
                        for _ in range(ins):
                            line, weight = plane, taps
                            for _ in range(top, bottom):
                                place, tap = line, weight
                                for _ in range(left, end):
                                    weights = splats(packed, tap, 1, block(rows))
                                    totals = outer(totals, weights, corners(x, place, x_down, x_right))
                                    place += LANES
                                    tap += rows
                                line += x_row
                                weight += filter_width * rows
                            plane += x_channel
                            taps += filter_height * filter_width * rows
                        if pooled:
                            at = to + pair * z_row + half * LANES
                            store_largest(z, places, at, z_channel, totals, biases)
                        else:
                            at = to + i * z_row + j * LANES
                            store_block(z, at, z_channel, down * z_row, right * LANES, totals, biases)

    return convolve_rows


@functools.cache
def convolve_weights(rows: int, columns: int) -> Any:
    """The kernel of the gradient of a convolution's weights: ``rows`` channels by ``columns`` taps."""
    size = rows * columns

    @kernel(rows, columns)
    def convolve_weights_rows(
        dz, dz_layout, x, x_whole, ins, filter_width, taps, stride, gradient,
        blocks, first, last, height, width,
    ):  # fmt: skip
        """Add to the gradient, ``(outs, ins, taps)``, what some blocks give."""
        dz_at, dz_block, dz_channel, dz_row, dz_column = (
            dz_layout[0], dz_layout[1], dz_layout[2], dz_layout[3], dz_layout[4],
        )  # fmt: skip
        x_block, x_channel, x_row = x_whole[1], x_whole[2], x_whole[3]
        sums = np.empty(size + LANES, np.float32)
        for n in range(blocks):
            for o in range(first, last, rows):
                for channel in range(ins):
                    for tap in range(0, taps, columns):
                        # The last group of taps reaches back; what it computes again is not added again.
                        begin = min(tap, taps - columns)
                        offsets = tap_offsets(begin, filter_width, x_row, block(columns))
                        totals = block(size)
                        for i in range(height):
                            here = dz_at + n * dz_block + o * dz_channel + i * dz_row
                            there = n * x_block + channel * x_channel + stride * i * x_row
                            for _ in range(width):
                                left = loads(dz, here, dz_channel, block(rows))
                                totals = outer(totals, left, loads_at(x, there, offsets, block(columns)))
                                here += dz_column
                                there += stride * LANES
                        store_sums(sums, totals)
                        for row in range(rows):
                            to = ((o + row) * ins + channel) * taps + begin
                            for k in range(tap - begin, columns):
                                gradient[to + k] += sums[row * columns + k]

    return convolve_weights_rows


@functools.cache
def multiply(rows: int, columns: int) -> Any:
    """The kernel of a product with a matrix: ``rows`` outputs of ``columns`` blocks at a time."""
    size = rows * columns

    @kernel(rows, columns)
    def multiply_rows(x, ins, weights, out_step, in_step, bias, y, outs, begin, end, first, last):
        """``y = weights @ x + bias`` for the blocks from ``begin`` to ``end``."""
        x_block, y_block = ins * LANES, outs * LANES
        for n in range(begin, end, columns):
            for o in range(first, last, rows):
                at = n * x_block
                weight = o * out_step
                totals = block(size)
                for _ in range(ins):
                    left = splats(weights, weight, out_step, block(rows))
                    totals = outer(totals, left, loads(x, at, x_block, block(columns)))
                    at += LANES
                    weight += in_step
                to = n * y_block + o * LANES
                biases = splats(bias, o, 1, block(rows))
                store_block(y, to, LANES, 2 * y_block, y_block, totals, biases)

    return multiply_rows


@functools.cache
def multiply_weights(rows: int, columns: int) -> Any:
    """The kernel of the gradient of a matrix: ``rows`` outputs by ``columns`` inputs at a time."""
    size = rows * columns

    @kernel(rows, columns)
    def multiply_weights_rows(dz, outs, x, ins, gradient, blocks, first, last, begin, end):
        """Write the gradient, ``(outs, ins)``, for the inputs from ``begin`` to ``end``."""
        sums = np.empty(size + LANES, np.float32)
        for i in range(begin, end, columns):
            for o in range(first, last, rows):
                here = o * LANES
                there = i * LANES
                totals = block(size)
                for _ in range(blocks):
                    left = loads(dz, here, LANES, block(rows))
                    totals = outer(totals, left, loads(x, there, LANES, block(columns)))
                    here += outs * LANES
                    there += ins * LANES
                store_sums(sums, totals)
                for row in range(rows):
                    for k in range(columns):
                        gradient[(o + row) * ins + i + k] = sums[row * columns + k]

    return multiply_weights_rows
