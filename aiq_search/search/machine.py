"""The resources that this machine has for trials."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

__all__ = ["Machine"]


@dataclass(frozen=True)
class Machine:
    """The machine that trials run on.

    Attributes:
        cpus: CPU cores.
        gpus: GPUs.
        memory: Bytes of memory, whoever uses them now.
    """

    cpus: int
    gpus: int
    memory: int

    @classmethod
    @cache
    def here(cls) -> Machine:
        """This machine."""
        import torch

        return cls(
            len(os.sched_getaffinity(0)),
            torch.cuda.device_count(),
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        )
