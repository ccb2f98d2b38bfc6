"""The worker's side of a search: assignments in, networks trained, reports out.

``worker.TrialWorker`` trains; ``trainable`` lets Ray Tune call it. Neither is imported here: the driver knows
only what passes between them.
"""

from aiq_search.worker.messages import Assignment, MakeWorker, Report, Rung, Worker

__all__ = ["Assignment", "MakeWorker", "Report", "Rung", "Worker"]
