"""The plainest possible reference: Python's own counting of rows."""

from collections import Counter

import numpy as np
import torch


def naive_counts(activations, axis):
    """Counts of the states, ascending, by a dictionary of tuples."""
    rows = np.moveaxis(activations.detach().to(torch.float64).cpu().numpy(), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1]) > 0
    return sorted(Counter(row.tobytes() for row in rows).values())


def naive_entropy(counts):
    share = np.asarray(counts) / np.sum(counts)
    return float(-(share * np.log2(share)).sum())


def table(counts):
    """A StateCounts as a dictionary from state to count."""
    return dict(zip(map(bytes, counts.states), counts.counts.tolist(), strict=True))
