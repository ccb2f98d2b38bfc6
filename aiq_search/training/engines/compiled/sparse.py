"""The gradient of a pooled convolution, as kernels that use how much of it is zero.

Behind a window of which only the largest is kept, all other positions have gradient 0. Which one is kept
differs from sample to sample, so that here a vector holds channels of one sample instead: a pooled gradient,
a number, times a row of a patch of the input or of a filter, which are vectors. It is 1 of 4 products for a
2 x 2 window.

Images lie as ``(sample, row, column, channel)`` here, channels filled up to whole vectors; filters as
``(output, row, column, channel)``. A ``width`` is that of a filter's row, in numbers.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from aiq_search.training.engines.compiled.arithmetic import block, outer
from aiq_search.training.engines.compiled.compiling import kernel
from aiq_search.training.engines.compiled.memory import loads, splats, stores, transpose
from aiq_search.training.engines.compiled.vectors import LANES

__all__ = ["add_filter_products", "add_patch_products", "collect", "images_from_lanes", "lanes_from_images"]

_OUTPUTS = 8


@kernel()
def images_from_lanes(x, x_whole, images, blocks, channels, filled, positions):
    """Copy planes, ``(block, channel, position, lane)``, to images."""
    x_block, x_channel = x_whole[1], x_whole[2]
    for n in range(blocks):
        for position in range(positions):
            for first in range(0, filled, LANES):
                at = n * x_block + position * LANES
                to = (n * LANES * positions + position) * filled + first
                last = at + (channels - 1) * x_channel
                sample = positions * filled
                transpose(x, at + first * x_channel, x_channel, last, images, to, sample, to + LANES * sample)


@kernel()
def lanes_from_images(images, rows, columns, top, left, x, x_layout, blocks, channels, filled, height, width):
    """Copy the inner ``height`` by ``width`` positions of images to planes."""
    x_block, x_channel, x_row = x_layout[1], x_layout[2], x_layout[3]
    sample = rows * columns * filled
    for n in range(blocks):
        for i in range(height):
            for j in range(width):
                for first in range(0, filled, LANES):
                    at = n * LANES * sample + ((top + i) * columns + left + j) * filled + first
                    to = n * x_block + i * x_row + j * LANES
                    limit = to + (channels - 1) * x_channel
                    transpose(
                        images, at, sample, at + LANES * sample, x, to + first * x_channel, x_channel, limit
                    )


@kernel()
def collect(
    pooled, places, samples, outs, windows, corner, shift,
    numbers, patches, sorted_numbers, sorted_outs, bounds,
):  # fmt: skip
    """Bring pooled gradients from lanes into the orders in which the other kernels read them.

    Args:
        pooled: ``(block, output, window, lane)``.
        places: Which position of its window each gradient belongs to.
        samples: How many.
        outs: Outputs of the convolution.
        windows: Windows of an output.
        corner: Where in an image the patch of the first position of each window begins.
        shift: How far from there that of each position begins.
        numbers: Receives the gradients, ``(sample, output, window)``.
        patches: Receives where each one's patch begins.
        sorted_numbers: Receives the gradients, ``(sample, window, output)``, by position in the window.
        sorted_outs: Receives which output each of these belongs to.
        bounds: Receives where each position's begin and end, ``(sample, window, positions + 1)``.
    """
    slots = shift.size
    begin = np.empty(slots + 1, np.int64)
    for sample in range(samples):
        n, lane = sample // LANES, sample % LANES
        for o in range(outs):
            for window in range(windows):
                at = ((n * outs + o) * windows + window) * LANES + lane
                to = (sample * outs + o) * windows + window
                numbers[to] = pooled[at]
                patches[to] = corner[window] + shift[places[at]]
        for window in range(windows):
            begin[:] = 0
            for o in range(outs):
                begin[places[((n * outs + o) * windows + window) * LANES + lane] + 1] += 1
            first = (sample * windows + window) * (slots + 1)
            total = (sample * windows + window) * outs
            for slot in range(slots + 1):
                total += begin[slot]
                begin[slot] = total
                bounds[first + slot] = total
            for o in range(outs):
                at = ((n * outs + o) * windows + window) * LANES + lane
                slot = places[at]
                sorted_numbers[begin[slot]] = pooled[at]
                sorted_outs[begin[slot]] = o
                begin[slot] += 1


@functools.cache
def add_patch_products(columns: int) -> Any:
    """The kernel of the gradient of the filters, for so many vectors of a filter's row at a time."""

    @kernel(columns)
    def add_patch_products_columns(
        images, image, row, numbers, patches, totals, samples, outs, windows, height, width
    ):
        """Add to each filter its gradients, each times its patch; an image has ``image`` numbers."""
        # Some outputs at a time: their totals and the patches of a sample both stay in the first cache.
        for line in range(height):
            for first in range(0, width, columns * LANES):
                for group in range(0, outs, _OUTPUTS):
                    for sample in range(samples):
                        offset = sample * image + line * row + first
                        for o in range(group, min(group + _OUTPUTS, outs)):
                            here = (sample * outs + o) * windows
                            to = (o * height + line) * width + first
                            total = loads(totals, to, LANES, block(columns))
                            for window in range(here, here + windows):
                                number = splats(numbers, window, 1, block(1))
                                patch = loads(images, offset + patches[window], LANES, block(columns))
                                total = outer(total, number, patch)
                            stores(totals, to, LANES, total)

    return add_patch_products_columns


@functools.cache
def add_filter_products(columns: int) -> Any:
    """The kernel of the gradient of the images, for so many vectors of a filter's row at a time."""

    @kernel(columns)
    def add_filter_products_columns(
        images, image, row, numbers, outs, bounds, corner, shift, filters, samples, windows, height, width
    ):
        """Add to each patch the filters, each times its gradient; ``numbers`` and ``outs`` are sorted."""
        slots = shift.size
        for line in range(height):
            for first in range(0, width, columns * LANES):
                weights = line * width + first
                for sample in range(samples):
                    for window in range(windows):
                        bound = (sample * windows + window) * (slots + 1)
                        for slot in range(slots):
                            begin, end = bounds[bound + slot], bounds[bound + slot + 1]
                            if begin < end:
                                to = sample * image + corner[window] + shift[slot] + line * row + first
                                total = loads(images, to, LANES, block(columns))
                                for k in range(begin, end):
                                    number = splats(numbers, k, 1, block(1))
                                    at = outs[k] * height * width + weights
                                    total = outer(total, number, loads(filters, at, LANES, block(columns)))
                                stores(images, to, LANES, total)

    return add_filter_products_columns
