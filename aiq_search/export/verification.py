"""The proof that a bundle is what its card says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiq_search.datasets import Dataset, load_dataset
from aiq_search.errors import InputError
from aiq_search.export.bundle import Bundle, load_bundle
from aiq_search.export.documents import SplitMetrics
from aiq_search.export.errors import BundleError
from aiq_search.export.measurement import environment, measure_split
from aiq_search.user_code import is_reference

__all__ = ["Check", "Verification", "verify_bundle"]

# Another processor adds in another order: a sample at the border may fall to the other side.
ELSEWHERE = 1e-4


@dataclass(frozen=True)
class Check:
    """One thing that was verified.

    Attributes:
        name: What.
        detail: How it came out, in words and numbers.
        passed: True; or None where it could not be checked here.
    """

    name: str
    detail: str
    passed: bool | None = True


@dataclass(frozen=True)
class Verification:
    """All that was verified of a bundle."""

    checks: tuple[Check, ...]


def verify_bundle(
    directory: Path,
    *,
    dataset: Dataset | None = None,
    data_dir: Path | None = None,
    allow_code: bool = False,
) -> Verification:
    """Verify a bundle: its checksums, and its numbers measured again.

    Args:
        directory: The bundle.
        dataset: Its data, where the caller has them in memory.
        data_dir: Folder of the data files otherwise, see ``load_dataset``.
        allow_code: Whether code that the bundle names may be imported.

    Returns:
        What was checked.

    Raises:
        InputError: There is no bundle, its data are not here, or it names code and that is not allowed.
        BundleError: The first thing that is not as the bundle says.
    """
    bundle = load_bundle(directory, allow_code=allow_code)
    if dataset is None:
        dataset = _load_data(bundle, data_dir, allow_code=allow_code)
    if dataset.digest != bundle.metrics.dataset.digest:
        raise BundleError(
            f"metrics.json: measured on data with digest {bundle.metrics.dataset.digest}, but "
            f"{bundle.dataset.name} here has {dataset.digest}: other files, or another version of the source."
        )
    checks = [Check("checksums", f"{len(bundle.files)} files")]
    checks += [_check_split(bundle, dataset, split) for split in ("validation", "test")]
    return Verification(tuple(checks))


def _load_data(bundle: Bundle, data_dir: Path | None, *, allow_code: bool) -> Dataset:
    if is_reference(bundle.dataset.name) and not allow_code:
        raise InputError(
            f"metrics.json: refused: the data come from code named {bundle.dataset.name!r}. "
            "If you trust that code, allow its import with --allow-code."
        )
    return load_dataset(bundle.dataset, data_dir)


def _check_split(bundle: Bundle, dataset: Dataset, split: str) -> Check:
    """Measure the network again and compare with the card, number by number."""
    here = environment() == bundle.metrics.environment
    tolerance = 0.0 if here else ELSEWHERE
    recorded = bundle.metrics.splits[split]  # type: ignore[index]
    measured = measure_split(bundle.model, dataset, split, beta=bundle.metrics.conventions.beta)
    worst = 0.0
    for name, (old, new) in _numbers(recorded, measured).items():
        worst = max(worst, abs(old - new))
        if not abs(old - new) <= tolerance:
            raise BundleError(
                f"{split}: {name} is {new!r}, but metrics.json says {old!r}"
                f"{'' if here else f' (a difference of {ELSEWHERE:g} is allowed on another machine)'}."
            )
    where = "equal, as it must be on this machine" if here else f"at most {worst:.1e} from the card"
    return Check(f"{split} numbers", f"aIQ {measured.aiq:.4f}, accuracy {measured.accuracy:.4f}: {where}")


def _numbers(recorded: SplitMetrics, measured: SplitMetrics) -> dict[str, tuple[float, float]]:
    """Pairs of recorded and measured numbers, by name."""
    pairs = {
        name: (getattr(recorded, name), getattr(measured, name))
        for name in ("samples", "accuracy", "efficiency", "aiq", "loss")
    }
    if recorded.layers.keys() != measured.layers.keys():
        raise BundleError(
            f"layers are {sorted(measured.layers)}, but metrics.json has {sorted(recorded.layers)}."
        )
    for name, value in recorded.layers.items():
        pairs[f"efficiency of {name}"] = (value, measured.layers[name])
    return pairs
