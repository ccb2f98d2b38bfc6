"""Looking into a bundle: verify it, run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiq_search.export import Predictions, Verification, load_bundle, predict, verify_bundle
from aiq_search.user_code import CodePolicy

__all__ = ["predict_files", "verify"]


def verify(
    directory: Path, *, data_dir: Path | None = None, with_data: bool = True, allow_code: Sequence[str] = ()
) -> Verification:
    """Verify a bundle; see ``export.verify_bundle``."""
    return verify_bundle(
        directory, data_dir=data_dir, with_data=with_data, code=CodePolicy.for_running(allow_code)
    )


def predict_files(directory: Path, inputs: Sequence[Path], *, allow_code: Sequence[str] = ()) -> Predictions:
    """Classify files with a bundle; see ``export.predict``."""
    return predict(load_bundle(directory, CodePolicy.for_running(allow_code)), inputs)
