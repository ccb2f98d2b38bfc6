"""``aiq slim``: a champion without the neurons that tell nothing, as a bundle of its own."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aiq_search.app.bundles import Export, take_home
from aiq_search.datasets import Dataset, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import Bundle, BundleContents, load_bundle, write_bundle
from aiq_search.export.documents import Conventions, SplitMetrics
from aiq_search.export.files import check_output
from aiq_search.export.measurement import measure_split, one_thread
from aiq_search.export.slimming import Slimmed, logits_of, slim
from aiq_search.models import Architecture, model_size
from aiq_search.training import TrainingOptions, TrainingRun
from aiq_search.user_code import CodePolicy

__all__ = ["Comparison", "Slim", "slim_champion"]


@dataclass(frozen=True)
class Comparison:
    """Before and after.

    Attributes:
        name: What is compared.
        before: Of the network as it was.
        after: Of the smaller one.
    """

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Slim:
    """A smaller network, and what changed.

    Attributes:
        export: Its bundle, verified.
        rows: Before and after.
        sentences: What was removed, and how far the function is from what it was.
    """

    export: Export
    rows: tuple[Comparison, ...]
    sentences: tuple[str, ...]


def slim_champion(
    name: str,
    output: Path,
    *,
    max_drop: float = 0.01,
    epochs: int = 0,
    learning_rate: float = 0.005,
    force: bool = False,
    data_dir: Path | None = None,
    tracking_uri: str | None = None,
    allow_code: Sequence[str] = (),
    home: Path | None = None,
) -> Slim:
    """Remove the neurons of a champion that tell nothing, and write what is left as a new bundle.

    Args:
        name: Directory of a bundle, or a study as of ``take_home``.
        output: The directory to write; must not exist.
        max_drop: Accuracy on the validation split that the removals may cost.
        epochs: How long the smaller network is trained on; the weights of the lowest validation loss are
            taken, be they from before that.
        learning_rate: For that.
        force: Replace an existing bundle.
        data_dir: Folder of the data files.
        tracking_uri: MLflow's store.
        allow_code: Packages whose code may be imported, besides modules of the working folder.
        home: AIQ_HOME.

    Raises:
        InputError: There is no such bundle or study, nothing can be removed, or something is at ``output``.
        BundleError: The bundle is damaged.
    """
    check_output(output, force=force)
    code = CodePolicy.for_running(allow_code)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(name)
        if not source.is_dir():
            source = Path(folder) / "champion"
            options: dict[str, Any] = {"data_dir": data_dir, "tracking_uri": tracking_uri, "home": home}
            take_home(name, source, allow_code=allow_code, **options)
        bundle = load_bundle(source, code)
    dataset = load_dataset(bundle.dataset, data_dir, code)
    if dataset.digest != bundle.metrics.dataset.digest:
        raise InputError(f"{bundle.dataset.name} here is not the data that {name} was measured on.")
    normalization = bundle.preprocessing.normalization
    found = slim(bundle.architecture, bundle.model.state_dict(), dataset, normalization, max_drop=max_drop)
    if not found.removed:
        kept = f" ({found.kept} do, but cost more than --max-drop {max_drop:g})" if found.kept else ""
        raise InputError(f"{name}: no neuron can go: none is always off, always on or in sync{kept}.")
    weights, trained = _trained_on(found, dataset, epochs, learning_rate, bundle.metrics.conventions)
    return _written(bundle, found, weights, dataset, output, trained=trained, force=force)


def _trained_on(
    found: Slimmed, dataset: Dataset, epochs: int, learning_rate: float, conventions: Conventions
) -> tuple[dict[str, Tensor], str]:
    """The weights after some more epochs, and a sentence on it."""
    if not epochs:
        return found.weights, ""
    options = TrainingOptions(epochs=epochs, learning_rate=learning_rate, engine="torch", device="cpu")
    with one_thread():
        run = TrainingRun(
            found.architecture,
            dataset,
            options,
            seed=0,
            beta=conventions.beta,
            capture=conventions.capture,
            weights=found.weights,
        )
        before = run.engine.evaluate(run.validation_split, conventions.beta).loss
        while not run.finished:
            run.run_epoch()
    if run.best is None or run.best.validation.loss >= before:
        return found.weights, f"Trained on for {run.epoch} epochs, none of which had a lower validation loss."
    return (
        run.best_weights,
        f"Trained on for {run.epoch} epochs; the weights are those of epoch {run.best.epoch}.",
    )


def _written(
    bundle: Bundle,
    found: Slimmed,
    weights: dict[str, Tensor],
    dataset: Dataset,
    output: Path,
    *,
    trained: str,
    force: bool,
) -> Slim:
    before = bundle.metrics.splits
    network = found.architecture.build()
    network.load_state_dict(weights)
    network.eval()
    normalization, conventions = bundle.preprocessing.normalization, bundle.metrics.conventions
    beta, capture = conventions.beta, conventions.capture
    after = {
        name: measure_split(network, dataset.split(name), normalization, beta=beta, capture=capture)
        for name in ("validation", "test")
    }
    rows = tuple(_rows(bundle, found.architecture, before["test"], after["test"]))
    with one_thread():
        one = logits_of(bundle.model, dataset.test, normalization)
        other = logits_of(network, dataset.test, normalization)
    same = float((one.argmax(1) == other.argmax(1)).double().mean())
    sentences = [
        *_removed(found),
        f"On the test split logits are within {float((one - other).abs().max()):.2g} of what they were, and "
        f"{same:.2%} of the samples have the same class.",
        *([trained] if trained else []),
    ]
    kept = {key: value for key, value in bundle.metrics.source.items() if not key.startswith("slimmed")}
    contents = BundleContents(
        architecture=found.architecture,
        weights=weights,
        dataset=dataset,
        dataset_options=bundle.dataset,
        beta=beta,
        capture=capture,
        expected={
            split: {"accuracy": numbers.accuracy, "aiq": numbers.aiq} for split, numbers in after.items()
        },
        source={
            **kept,
            "slimmed": " ".join(sentences),
            **{f"slimmed, {row.name}": f"{row.before:g} -> {row.after:g}" for row in rows},
        },
    )
    verification = write_bundle(output, contents, force=force)
    return Slim(Export(output, verification), rows, tuple(sentences))


def _rows(
    bundle: Bundle, architecture: Architecture, before: SplitMetrics, after: SplitMetrics
) -> list[Comparison]:
    old, new = bundle.metrics.size, model_size(architecture.build(), architecture.input_shape)
    return [
        Comparison("parameters", old.parameters, new.parameters),
        Comparison("macs", old.macs, new.macs),
        *(
            Comparison(f"test/{name}", getattr(before, name), getattr(after, name))
            for name in ("accuracy", "efficiency", "aiq")
        ),
    ]


def _removed(found: Slimmed) -> list[str]:
    """A sentence a layer."""
    sentences = []
    for layer in dict.fromkeys(removal.layer for removal in found.removed):
        gone = [removal for removal in found.removed if removal.layer == layer]
        kinds = Counter(removal.why.partition(" neuron ")[0] for removal in gone)
        sentences.append(
            f"{layer} lost {len(gone)} of {len(gone) + found.architecture.arguments[layer]} neurons: "
            f"{', '.join(f'{count} {kind}' for kind, count in kinds.items())}."
        )
    if found.kept:
        sentences.append(f"{found.kept} more tell nothing, but would have cost more accuracy than allowed.")
    return sentences
