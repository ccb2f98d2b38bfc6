"""``python -m aiq_search`` is the command ``aiq``."""

from aiq_search.cli import run

if __name__ == "__main__":
    run()
