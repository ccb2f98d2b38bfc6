#!/usr/bin/env python3
"""Health check of a container: exits with 0 if every URL answers 200 within five seconds, else with 1."""

import sys
import urllib.request


def answers(url: str) -> bool:
    """Whether ``url`` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310 - from our own configuration
            return bool(reply.status == 200)
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) > 1 and all([answers(url) for url in sys.argv[1:]]) else 1)
