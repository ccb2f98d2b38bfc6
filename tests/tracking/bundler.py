"""Writes what looks like a bundle, or fails: ``python -m tests.tracking.bundler DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path


def main(directory: Path) -> int:
    if (directory / "broken").exists():
        print("the weights are gone")
        return 1
    bundle = directory / "best" / "bundle"
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "model.safetensors").write_text("light")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
