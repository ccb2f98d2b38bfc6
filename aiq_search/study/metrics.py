"""Names of the numbers that a trial reports; ``training.run`` and ``worker.worker`` make them."""

from __future__ import annotations

from aiq_search.space.constraint import SIZES, UNTRAINED
from aiq_search.training.measures import COSTS, INT8_ACCURACY, MEASURES

__all__ = ["COSTS", "EXACT", "HEADLINE", "ONCE", "SIZES", "UNTRAINED", "is_merit"]

HEADLINE = ("aiq", "accuracy", "efficiency")  # from 0 to 1, more is better

# Beginnings of the names of what a trial reports once, not in every epoch. ceiling/<layer> is the highest
# efficiency that the layer can show on the validation split, where that is below 1. latency_ms_iqr is the
# spread of latency_ms.
ONCE = (*UNTRAINED, "ceiling/", "test/", INT8_ACCURACY)

# The same for each training of a configuration, unlike latency_ms, which is measured.
EXACT = (*SIZES, "activation_bytes")


def is_merit(name: str) -> bool:
    """Whether a number is from 0 to 1 and more of it is better; that of a network without merit is 0.

    >>> is_merit("efficiency/conv1"), is_merit("macro_f1"), is_merit("loss")
    (True, True, False)
    """
    return name in (*HEADLINE, *MEASURES, INT8_ACCURACY) or name.startswith("efficiency/")
