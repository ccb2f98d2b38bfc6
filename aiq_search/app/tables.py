"""Trials as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from aiq_search.search import TrialRecord

__all__ = ["trials_frame"]


def trials_frame(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row a trial.

    Columns: name, phase, trial, state, value, the metrics, the parameters, seed, epochs, seconds,
    reason.
    """
    rows = []
    for record in records:
        seconds = None
        if record.started is not None and record.ended is not None:
            seconds = record.ended - record.started
        rows.append(
            {
                "name": record.name,
                "phase": str(record.key.phase),
                "trial": record.key.number,
                "state": str(record.state),
                "value": record.value,
                **record.metrics,
                **record.params,
                "seed": record.seed,
                "epoch": record.epoch,
                "epochs": record.epochs,
                "collapsed": record.collapsed,
                "feasible": record.feasible,
                "seconds": seconds,
                "reason": record.reason,
            }
        )
    return pd.DataFrame(rows)
