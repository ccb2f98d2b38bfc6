"""Several studies side by side: their champions, what they cost, and in which settings they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.study.events import TrialState
from aiq_search.study.time_spent import cost_of
from aiq_search.words import compared, counted, duration, typeset

if TYPE_CHECKING:
    from aiq_search.study.champion import Champion, Spread

__all__ = ["Table", "champions", "costs", "notes", "settings", "verdicts"]

# Differences between means that are larger than so many standard errors are called clear.
_CLEAR = 2


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        heads: Names of the columns.
        rows: Its rows, the first cell a name.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


# Names of a champion's numbers, in the order of the table.
_SIZES = {"parameters": "parameters", "parameters_weights": "weights only", "macs": "MACs"}
_NUMBERS = {"aiq": "aIQ", "accuracy": "accuracy", "efficiency": "efficiency"}


def champions(studies: Sequence[StudyFacts]) -> Table:
    """A column a study: its champion, or the best so far, with its numbers."""
    columns = [_champion(facts) for facts in studies]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return Table(["", *(facts.id for facts in studies)], rows)


def _champion(facts: StudyFacts) -> dict[str, str]:
    winner = facts.winner
    if winner is None:
        return {"network": "none meets the constraints"}
    cells = {"network": facts.label(winner.explored) + ("" if facts.confirmed_winner else ", best so far")}
    for split, spreads in (("validation", winner.validation), ("test", winner.test)):
        seeds = spreads["aiq"].n if spreads else 0
        cells |= {f"{title}, {split}": _spread(spreads.get(name)) for name, title in _NUMBERS.items()}
        cells[f"seeds, {split}"] = f"{seeds}" if seeds else ""
    cells |= {title: f"{winner.explored.metrics[name]:,.0f}" for name, title in _SIZES.items()}
    return cells | {"beside its most accurate network": _price(facts)}


def _price(facts: StudyFacts) -> str:
    beside = facts.comparison
    if beside is None:
        return "is the most accurate itself"
    return f"{beside.lost} accurate, {compared(*beside.size('parameters'))} parameters"


def costs(studies: Sequence[StudyFacts], volumes: Sequence[float]) -> Table:
    """A row a study: how much was trained, how long that took, and the hypervolume that came of it.

    Args:
        studies: The studies.
        volumes: The hypervolume of each.
    """
    found = [cost_of(facts.document, facts.records) for facts in studies]
    heads = ["study", "trainings", "stopped early", "epochs", "time", "core time", "hypervolume"]
    rows = [
        [
            facts.id,
            f"{cost.trainings:,}",
            f"{sum(record.state is TrialState.PRUNED for record in facts.explored):,}",
            f"{cost.epochs:,}",
            duration(3600 * cost.hours),
            duration(3600 * cost.core_hours),
            f"{volume:.4f}",
        ]
        for facts, cost, volume in zip(studies, found, volumes, strict=True)
    ]
    if any(cost.gpu_hours for cost in found):
        heads.insert(6, "GPU time")
        for row, cost in zip(rows, found, strict=True):
            row.insert(6, duration(3600 * cost.gpu_hours))
    return Table(heads, rows)


# ---- settings ---------------------------------------------------------------------------------------------


def settings(studies: Sequence[StudyFacts]) -> Table:
    """A row for each setting in which the studies differ: of the space, the data, and the versions."""
    columns = [dict(_flat(_settings(facts))) for facts in studies]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    return Table(["setting", *(facts.id for facts in studies)], differing)


def _settings(facts: StudyFacts) -> dict[str, Any]:
    space, document = facts.options.document(), facts.document
    del space["schema_version"]
    space["parameters"] = {
        name: each.values + (f", when {each.when}" if each.when else "")
        for name, each in facts.options.parameters.items()
    }
    space["enqueue"] = counted(len(space["enqueue"]), "configuration")
    return {
        **space,
        "data": f"digest {document.dataset.digest[:12]}",
        "warm start": list(document.warm_start),
        "version": dict(document.provenance.versions),
    }


def _flat(document: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values as text; a parameter's range is called by the parameter's name alone."""
    for name, value in document.items():
        place = f"{where}.{name}" if where and where != "parameters" else name
        if isinstance(value, Mapping):
            yield from _flat(value, place)
        elif isinstance(value, list | tuple):
            yield place, ", ".join(map(str, value))
        elif value is not None:
            yield place, f"{value:g}" if isinstance(value, float) else str(value)


# ---- sentences --------------------------------------------------------------------------------------------


def notes(studies: Sequence[StudyFacts]) -> list[str]:
    """What to know before the studies' numbers are compared."""
    found = []
    data = _groups(studies, lambda facts: facts.document.dataset.digest)
    if len(data) > 1:
        each = [f"{_data(group[0])} in {_ids(group)}" for group in data]
        found.append(
            f"The studies are of different data: {'; '.join(each)}. Only numbers of the same data compare."
        )
    measures: list[tuple[str, Callable[[StudyFacts], str]]] = [
        ("aIQ weighs accuracy differently", lambda facts: f"β = {facts.beta:g}"),
        ("What counts as accuracy in aIQ differs", lambda facts: facts.options.objective.accuracy),
        ("Efficiency is measured differently", lambda facts: f"states {facts.document.capture}"),
        ("The objectives differ", _objective),
        ("The constraints differ, and a front has only trials that meet them", _constraints),
    ]
    for what, of in measures:
        groups = _groups(studies, of)
        if len(groups) > 1:
            found.append(f"{what}: {'; '.join(f'{of(group[0])} in {_ids(group)}' for group in groups)}.")
    for facts in studies:
        if facts.winner is not None and not facts.confirmed_winner:
            found.append(f"{facts.id} has no champion yet: its best so far is not confirmed on fresh seeds.")
    return found


def _data(facts: StudyFacts) -> str:
    dataset = facts.document.dataset
    return f"{dataset.name} (digest {dataset.digest[:8]})"


def _objective(facts: StudyFacts) -> str:
    return " and ".join(f"{direction} {name}" for name, direction in facts.options.objective.directions)


def _constraints(facts: StudyFacts) -> str:
    return typeset(" and ".join(facts.options.objective.constraints)) or "none"


def verdicts(studies: Sequence[StudyFacts]) -> list[str]:
    """Whose champion is better, a sentence for each group of studies whose numbers compare."""

    def same(facts: StudyFacts) -> str:
        objective, document = facts.options.objective, facts.document
        return f"{document.dataset.digest} {facts.beta} {objective.accuracy} {document.capture}"

    decided = [facts for facts in studies if facts.winner is not None and facts.confirmed_winner]
    return [_verdict(group) for group in _groups(decided, same) if len(group) > 1]


def _verdict(group: Sequence[StudyFacts]) -> str:
    tested = all(_winner(facts).test for facts in group)

    def reached(facts: StudyFacts) -> Spread:
        winner = _winner(facts)
        return (winner.test if tested else winner.validation)["aiq"]

    first, second = sorted(group, key=lambda facts: -reached(facts).mean)[:2]
    best, next_best = reached(first), reached(second)
    lead = best.mean - next_best.mean
    error = (best.sd**2 / best.n + next_best.sd**2 / next_best.n) ** 0.5
    split = "test" if tested else "validation"
    text = (
        f"On {first.document.dataset.name} the champion of {first.id} has the highest mean aIQ on the "
        f"{split} split, {_spread(best)}, {lead:.4f} above that of {second.id}"
    )
    if min(best.n, next_best.n) == 1:
        return text + "; on one seed that may be luck."
    if lead > _CLEAR * error:
        return text + f": more than {_CLEAR} standard errors of the difference ({error:.4f} each)."
    return text + f": too little to tell them apart (the standard error of the difference is {error:.4f})."


def _winner(facts: StudyFacts) -> Champion:
    if facts.winner is None:
        raise ValueError(f"study {facts.id} has no champion")
    return facts.winner


def _groups(studies: Sequence[StudyFacts], of: Callable[[StudyFacts], str]) -> list[list[StudyFacts]]:
    """The studies by what ``of`` says of them, in their order."""
    groups: dict[str, list[StudyFacts]] = {}
    for facts in studies:
        groups.setdefault(of(facts), []).append(facts)
    return list(groups.values())


def _ids(studies: Sequence[StudyFacts]) -> str:
    return ", ".join(facts.id for facts in studies)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.mean:.4f} ± {spread.sd:.4f}" if spread.n > 1 else f"{spread.mean:.4f}"
