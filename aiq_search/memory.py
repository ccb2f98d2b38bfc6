"""How much memory is free, so that what cannot fit is refused instead of killed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_memory"]

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that this process may still take: free on the machine, and within its container's limit.

    Where the system does not tell what is free, this is all its memory.
    """
    amounts = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        amounts.append(int(fields["MemAvailable"].split()[0]) * 1024)
        limit, used = ((_CGROUP / name).read_text() for name in ("memory.max", "memory.current"))
        amounts.append(int(limit) - int(used))  # "max" is no limit and no number
    except (OSError, KeyError, ValueError):
        pass  # another system, or no container
    return max(0, min(amounts))
