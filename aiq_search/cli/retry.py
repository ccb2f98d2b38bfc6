"""``aiq retry``."""

from __future__ import annotations

from aiq_search.cli.options import (
    Address,
    DataDir,
    Format,
    FormatOption,
    SharedStorage,
    StudyArgument,
    TrackingUri,
)
from aiq_search.cli.search import run_with_view

__all__ = ["retry"]


def retry(
    study: StudyArgument,
    storage: SharedStorage = None,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    address: Address = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run the failed trials of STUDY again, and go on with what else is left to do."""
    from aiq_search.app.retry import retry_failed

    run_with_view(
        lambda listener: retry_failed(
            study,
            storage=storage,
            tracking_uri=tracking_uri,
            data_dir=data_dir,
            address=address,
            listeners=[listener],
        ),
        form,
    )
