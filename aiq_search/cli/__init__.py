"""The command line: arguments in, one call into app, a table or JSON out."""

from aiq_search.cli.main import main, run

__all__ = ["main", "run"]
