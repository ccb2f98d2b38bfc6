"""``python -m aiq_search`` is the command ``aiq``."""

from aiq_search.cli import main

if __name__ == "__main__":
    main()
