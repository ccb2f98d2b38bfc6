"""Training and measuring on one processor core, with kernels of our own, compiled by numba.

Why it is there: the networks that win here are so narrow that torch spends its time on everything but
arithmetic, and lays out a batch so that most lanes of the processor are idle. Here a lane holds a sample, so
that a layer of two channels fills the registers as one of 200 does.

Why numba: it is a dependency already and brings LLVM along, so that the kernels are compiled for the user's
own processor without a compiler being installed, and this package stays a plain wheel. A C extension would be
as fast, but only where a compiler is, or for the oldest processor that a wheel must run on. oneDNN, through
torch, is what was too slow.
"""

from aiq_search.training.engines.compiled.engine import CompiledEngine
from aiq_search.training.engines.compiled.recognition import UnknownNetworkError

__all__ = ["CompiledEngine", "UnknownNetworkError"]
