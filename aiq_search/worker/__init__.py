"""The worker's side of a search: assignments in, networks trained, reports out."""

from aiq_search.worker.messages import Assignment, Report

__all__ = ["Assignment", "Report"]
