"""What computes a training: torch, or kernels of our own for the networks that they know."""

from aiq_search.training.engines.engine import Engine, make_engine

__all__ = ["Engine", "make_engine"]
