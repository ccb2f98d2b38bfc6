"""Data sets that are not there, made up."""

import numpy as np

from aiq_search.datasets import known_shape
from aiq_search.datasets.dataset import Dataset, Normalization, Split


def made_up(name, samples=120):
    """Random images of the shape of a data set."""
    shape, classes = known_shape(name)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples, *shape), dtype=np.uint8)
    split = Split(images, random.integers(0, classes, samples))
    labels = tuple(map(str, range(classes)))
    normal = Normalization((1 / 128,) * shape[0], (-1.0,) * shape[0])
    return Dataset(name, split, split, split, labels, normal, "digest")
