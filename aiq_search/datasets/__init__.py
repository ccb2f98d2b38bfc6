"""Named data sets, arrays and tables, with fixed train, validation and test splits."""

from aiq_search.datasets.dataset import Dataset, Normalization, Split, split_off
from aiq_search.datasets.encoding import TableEncoding
from aiq_search.datasets.load import DATASETS, check_options, known_shape, load_dataset
from aiq_search.datasets.options import DatasetOptions

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetOptions",
    "Normalization",
    "Split",
    "TableEncoding",
    "check_options",
    "known_shape",
    "load_dataset",
    "split_off",
]
