"""Looking into a bundle: verify it, run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiq_search.export import Predictions, Verification, load_bundle, predict, verify_bundle

__all__ = ["predict_files", "verify"]


def verify(
    directory: Path, *, data_dir: Path | None = None, with_data: bool = True, allow_code: bool = False
) -> Verification:
    """Verify a bundle; see ``export.verify_bundle``."""
    return verify_bundle(directory, data_dir=data_dir, with_data=with_data, allow_code=allow_code)


def predict_files(directory: Path, inputs: Sequence[Path], *, allow_code: bool = False) -> Predictions:
    """Classify files with a bundle; see ``export.predict``."""
    return predict(load_bundle(directory, allow_code=allow_code), inputs)
