"""Where every random stream of a study comes from."""

from __future__ import annotations

import hashlib

__all__ = ["derive_seed"]


def derive_seed(study_seed: int, stream: str, number: int) -> int:
    """The seed of one use of randomness, fixed by the study's seed and what it is for.

    Streams are independent, so that one may be lengthened, resumed or run in parallel without moving
    another.

    Args:
        study_seed: ``search.seed``.
        stream: What it is for: sampler, explore, replicate, confirm.
        number: Which one.

    Returns:
        A number below 2**31, which every library takes.

    Example:
        >>> derive_seed(0, "explore", 0) == derive_seed(0, "explore", 0) != derive_seed(0, "explore", 1)
        True
    """
    digest = hashlib.sha256(f"{study_seed}/{stream}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
