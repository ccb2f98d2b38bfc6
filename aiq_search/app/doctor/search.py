"""Whether a search could do better: what its trials show about its space."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from aiq_search.app.doctor.choice import check_choice
from aiq_search.app.doctor.finding import Finding, Level
from aiq_search.space import SearchSpace
from aiq_search.space.parameters import Float, Int
from aiq_search.study import Phase, Study, TrialRecord, TrialState
from aiq_search.words import counted

__all__ = ["check_search"]

# Fewer trials than this show nothing.
_ENOUGH = 8

# How near to the end of its range a parameter's best value is at the edge, as a fraction of the range.
_EDGE = 0.03

# How many of the best trials must agree.
_LEADERS = 5

# Above these shares there is a finding.
_MANY_COLLAPSES = 0.2
_MANY_PRUNED = 0.9
_SATURATED = 0.95


def check_search(study: Study, records: Sequence[TrialRecord]) -> Iterator[Finding]:
    """Check for an optimum at the edge of a range, early stopping, collapses, saturation and constraints.

    Args:
        study: The study.
        records: Its trials.
    """
    refused = list(check_choice(study, records))
    yield from refused
    explored = [r for r in records if r.key.phase is Phase.EXPLORE and r.finished and r.copied_from is None]
    if len(explored) < _ENOUGH:
        yield _finding(
            Level.NOTE,
            f"{counted(len(explored), 'trial')}: too few to judge the search by; {_ENOUGH} are enough.",
        )
        return
    findings = [
        finding
        for check in (
            _at_the_edge,
            _pruned_at_once,
            _still_learning,
            _collapses,
            _saturation,
            _never_met,
        )
        for finding in check(study, explored)
    ]
    yield from findings
    if not findings and not refused:
        yield _finding(Level.OK, "The ranges, the pruner and the constraints suit the results.")


def _best(study: Study, explored: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The complete trials that meet the constraints, the best first."""
    from aiq_search.study.champion import rank_key

    good = [r for r in explored if r.state is TrialState.COMPLETE and r.feasible and not r.collapsed]
    return sorted(good, key=lambda record: rank_key(study.space.objective, record))


def _at_the_edge(study: Study, explored: Sequence[TrialRecord]) -> Iterator[Finding]:
    best = _best(study, explored)[:3]
    for name, parameter in study.space.parameters.items():
        if not isinstance(parameter, Int | Float) or parameter.low == parameter.high:
            continue
        scale: Callable[[float], float] = math.log if parameter.log or _powers(parameter) else float
        low, high = scale(parameter.low), scale(parameter.high)
        having = [r for r in best if name in r.params]
        places = [(scale(r.params[name]) - low) / (high - low) for r in having]
        if len(places) < 2:
            continue
        for end, at in (("low", [p <= _EDGE for p in places]), ("high", [p >= 1 - _EDGE for p in places])):
            if at[0] and sum(at) >= 2:
                bound = getattr(parameter, end)
                yield _finding(
                    Level.WARNING,
                    f"The best trials have {name} = {having[0].params[name]:g}, at the {end} end of its "
                    "range.",
                    f"The optimum may lie beyond: {'lower' if end == 'low' else 'raise'} "
                    f"parameters.{name}.{end} = {bound:g} in a new study.",
                )


def _powers(parameter: Int | Float) -> bool:
    return isinstance(parameter, Int) and parameter.powers_of is not None


def _pruned_at_once(study: Study, explored: Sequence[TrialRecord]) -> Iterator[Finding]:
    pruned = [r for r in explored if r.state is TrialState.PRUNED and r.epochs]
    first = min((r.epochs for r in pruned), default=0)
    at_once = sum(r.epochs == first for r in pruned)
    if at_once >= _MANY_PRUNED * len(explored):
        yield _finding(
            Level.WARNING,
            f"{at_once} of {len(explored)} trials were pruned at the first chance, after "
            f"{counted(first, 'epoch')}.",
            "The pruner decides too early: raise its min_resource (search.pruner: {name: "
            f"{study.space.search.pruner.name}, min_resource: 3}}), or set search.pruner to none.",
        )


def _still_learning(study: Study, explored: Sequence[TrialRecord]) -> Iterator[Finding]:
    best = _best(study, explored)[:_LEADERS]
    if len(best) == _LEADERS and all(record.epoch == record.epochs for record in best):
        yield _finding(
            Level.NOTE,
            f"The {_LEADERS} best trials had their lowest validation loss in the last epoch: they were still "
            "improving.",
            f"Train longer in a new study (training.epochs: {2 * best[0].epochs}); the ranking may change.",
        )


def _collapses(study: Study, explored: Sequence[TrialRecord]) -> Iterator[Finding]:
    ran = [r for r in explored if r.epochs]
    collapsed = [r for r in ran if r.collapsed]
    diverged = sum(r.state is TrialState.FAIL and "diverged" in (r.reason or "") for r in explored)
    if ran and len(collapsed) > _MANY_COLLAPSES * len(ran):
        yield _finding(
            Level.WARNING,
            f"{len(collapsed)} of {len(ran)} networks collapsed: one of the layers is always in one state.",
            "Lower training.learning_rate's high end, raise the low end of the widths, or search "
            "model.batch_norm.",
        )
    if diverged > _MANY_COLLAPSES * len(explored):
        yield _finding(
            Level.WARNING,
            f"{diverged} of {len(explored)} trials diverged.",
            "Lower training.learning_rate's high end.",
        )


def _saturation(study: Study, explored: Sequence[TrialRecord]) -> Iterator[Finding]:
    """Efficiency cannot exceed log2(N) / C: at that ceiling it reflects N, not the layer's states."""
    best = _best(study, explored)
    for name, ceiling in best[0].metrics.items() if best else ():
        layer = name.removeprefix("ceiling/")
        reached = best[0].metrics.get(f"efficiency/{layer}", 0.0)
        if layer != name and reached >= _SATURATED * ceiling:
            samples = study.document.dataset.validation
            yield _finding(
                Level.WARNING,
                f"Layer {layer} of {best[0].name} has efficiency {reached:.3f}, which cannot exceed "
                f"{ceiling:.3f} for its width and the {samples:,} validation samples.",
                "Its efficiency reflects the number of samples, not the layer: raise dataset.validation, or "
                "compare only networks of similar width.",
            )


def _never_met(study: Study, explored: Sequence[TrialRecord]) -> Iterator[Finding]:
    space: SearchSpace = study.space
    ran = [r for r in explored if r.metrics]
    for constraint in space.objective.number_constraints:
        judged = [r for r in ran if constraint.judged(r.metrics) in r.metrics]
        violations = [(constraint.violation(r.scored), r) for r in judged]
        if not violations or any(violation <= 0 for violation, _ in violations):
            continue
        _, nearest = min(violations, key=lambda pair: (pair[0], pair[1].key.number))
        reached = nearest.scored[constraint.judged(nearest.metrics)]
        yield _finding(
            Level.PROBLEM,
            f"No trial meets {constraint}; {nearest.name} comes nearest with {reached:.4g}.",
            "Relax the constraint, widen the ranges, or train longer (training.epochs).",
        )


def _finding(level: Level, what: str, remedy: str = "") -> Finding:
    return Finding("search", level, what, remedy)
