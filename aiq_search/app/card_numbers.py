"""What a bundle's card says of a network's configuration, over seeds, and of the reference network."""

from __future__ import annotations

from dataclasses import asdict

from aiq_search.export import SeedMetrics, SpreadDocument
from aiq_search.export.documents import ReferenceDocument
from aiq_search.study import Champion, Phase, Spread, Study, TrialRecord
from aiq_search.study.metrics import HEADLINE
from aiq_search.study.reference import comparison_of

__all__ = ["configuration_of", "reference_of"]


def configuration_of(
    study: Study, record: TrialRecord, champion: Champion | None
) -> tuple[dict[str, dict[str, SpreadDocument]], tuple[SeedMetrics, ...]]:
    """Spread and seeds of the configuration that a network belongs to."""
    records, spreads = [record], {}
    if champion is not None:
        spreads = {"validation": champion.validation, "test": champion.test}
        if champion.phase is Phase.CONFIRM:
            records = [r for r in study.records(Phase.CONFIRM) if r.origin == champion.trial and r.finished]
        elif champion.judges:
            records = list(champion.judges)
    seeds = (
        SeedMetrics(
            name=each.name,
            seed=each.seed,
            exported=each.key == record.key,
            collapsed=each.collapsed,
            metrics=dict(each.metrics),
        )
        for each in records
    )
    return {
        split: {name: _spread(spread) for name, spread in numbers.items()}
        for split, numbers in spreads.items()
    }, tuple(seeds)


def _spread(spread: Spread) -> SpreadDocument:
    return SpreadDocument(**{**asdict(spread), "sd": spread.sd if spread.n > 1 else None})


def reference_of(study: Study) -> ReferenceDocument | None:
    """The champion beside the reference network; None where that was not trained on the champion's seeds."""
    comparison = comparison_of(study)
    if comparison is None or not comparison.confirmed:
        return None
    ours, theirs = comparison.size("parameters")
    return ReferenceDocument(
        parameters={name: value for name, value in comparison.reference.params.items()},
        size=int(theirs),
        times_fewer_parameters=theirs / max(1.0, ours),
        test={
            name: _spread(spread)
            for name, spread in comparison.spreads(comparison.theirs).items()
            if name in HEADLINE
        },
        points_lost=_spread(comparison.points),
    )
