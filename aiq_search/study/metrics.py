"""Names of the numbers that a trial reports."""

from __future__ import annotations

__all__ = ["HEADLINE", "SIZES"]

HEADLINE = ("aiq", "accuracy", "efficiency")  # from 0 to 1, more is better
SIZES = ("parameters", "parameters_weights", "macs")  # of the network, the same in every epoch
