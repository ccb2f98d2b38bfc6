"""The command line: arguments in, one call into app, a table or JSON out."""

from aiq_search.cli.main import main

__all__ = ["main"]
