"""Tracking: what of a study goes to MLflow, once and only once; figures and the report.

Nothing here imports mlflow: only the delivery process does (``python -m aiq_search.tracking.deliver``).
"""

from aiq_search.tracking.listener import MlflowListener
from aiq_search.tracking.outbox import Outbox, Undelivered
from aiq_search.tracking.reconcile import reconcile
from aiq_search.tracking.uri import (
    absolute_tracking_uri,
    check_tracking_uri,
    default_tracking_uri,
)

__all__ = [
    "MlflowListener",
    "Outbox",
    "Undelivered",
    "absolute_tracking_uri",
    "check_tracking_uri",
    "default_tracking_uri",
    "reconcile",
]
