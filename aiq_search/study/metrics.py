"""Names of the numbers that a trial reports; ``training.run`` and ``worker.worker`` make them."""

from __future__ import annotations

from aiq_search.space.constraint import COSTS, SIZES, UNTRAINED
from aiq_search.training.measures import INT8_ACCURACY, MEASURES

__all__ = ["COSTS", "EXACT", "HEADLINE", "ONCE", "SIZES", "UNTRAINED", "is_merit", "shown"]

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


def shown(name: str, value: float, sd: float | None = None, *, sign: bool = False) -> str:
    """A number to read, and its standard deviation if it has one; of a difference, with its sign.

    >>> shown("aiq", 0.8, 0.03), shown("activation_bytes", 1568.0, 0.0), shown("latency_ms", 0.00712, 0.0004)
    ('0.8000 ± 0.0300', '1,568', '0.00712 ± 0.0004')
    """
    plus = "+" if sign else ""
    if name in EXACT:  # no seed changes it
        return f"{value:{plus},.0f}"
    form = ".4g" if name.startswith("latency_ms") else ".4f"
    deviation = "" if sd is None else f" ± {sd:{form}}"
    return f"{value:{plus}{form}}{deviation}"
