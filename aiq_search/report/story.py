"""A study in words: which network won, by how much, why, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiq_search.report.figures.facts import StudyFacts
from aiq_search.study.champion import Spread
from aiq_search.study.description import command_line
from aiq_search.study.events import TrialState
from aiq_search.study.finalists import Outcome, Verdict
from aiq_search.study.metrics import COSTS, SIZES
from aiq_search.training.measures import INT8_ACCURACY
from aiq_search.words import compared, counted, shown

if TYPE_CHECKING:
    from aiq_search.study.record import TrialRecord
    from aiq_search.study.reference import Comparison

__all__ = ["commands", "comparison", "findings", "footer", "headline", "sentences", "tiles"]


def headline(facts: StudyFacts) -> str:
    """The result in one line."""
    if facts.winner is None:
        return "No network met every constraint" if facts.complete else "No trial is complete yet"
    aiq, winner = facts.winner.validation["aiq"], facts.winner.explored
    spread = f" ± {aiq.sd:.3f}" if aiq.n > 1 else ""
    size = winner.metrics.get("parameters", 0)
    numbers = f"aIQ {aiq.mean:.3f}{spread} with {size:,.0f} parameters"
    if not facts.confirmed_winner:
        seeds = "on one seed" if aiq.n == 1 else f"the mean of {aiq.n} seeds"
        return f"Best so far, {seeds}: {facts.label(winner)}, {numbers}"
    return f"{facts.label(winner)} won: {numbers}"


def tiles(facts: StudyFacts) -> list[tuple[str, str, str]]:
    """The few numbers that one sees first: name, value, note."""
    if facts.winner is None:
        return []
    validation, test = facts.winner.validation, facts.winner.test
    seeds = counted(validation["aiq"].n, "seed")
    shown = [
        ("aIQ", "aiq", "{:.3f}"),
        ("accuracy", "accuracy", "{:.2%}"),
        ("efficiency", "efficiency", "{:.3f}"),
    ]
    made = []
    for title, name, form in shown:
        note = f"test {form.format(test[name].mean)}" if name in test else f"validation, {seeds}"
        made.append((title, form.format(validation[name].mean), note))
    metrics = facts.winner.explored.metrics
    made.append(("parameters", f"{metrics.get('parameters', 0):,.0f}", f"{metrics.get('macs', 0):,.0f} MACs"))
    return made


def sentences(facts: StudyFacts) -> list[str]:
    """Who won, by how much, and why."""
    reasons = [] if facts.champion is None else [*_decision(facts), *_against_the_most_accurate(facts)]
    reasons += [] if facts.champion is None else _held_back(facts)
    return [_counts(facts), *reasons]


def _counts(facts: StudyFacts) -> str:
    by_state = {s: sum(r.state is s for r in facts.explored) for s in TrialState}
    counts = [f"{by_state[TrialState.COMPLETE]} trained to the end"]
    counts += [f"{by_state[TrialState.PRUNED]} stopped early"] if by_state[TrialState.PRUNED] else []
    counts += [f"{by_state[TrialState.FAIL]} failed"] if by_state[TrialState.FAIL] else []
    counts += [f"{by_state[TrialState.RUNNING]} unfinished"] if by_state[TrialState.RUNNING] else []
    collapsed = sum(r.collapsed for r in facts.explored)
    counts += [f"{collapsed} collapsed"] if collapsed else []
    replicates = facts.options.search.replicates
    tried = len({r.config_hash for r in facts.explored}) if replicates > 1 else len(facts.explored)
    each = f", each on {replicates} seeds" if replicates > 1 else ""
    text = f"{counted(tried, 'configuration', 'were')} tried{each}: {', '.join(counts)}."
    if len(facts.finalists) == 1:
        text += " The best was trained again on fresh seeds."
    elif facts.finalists:
        text += f" The best {len(facts.finalists)} were trained again on fresh seeds."
    return text


def _decision(facts: StudyFacts) -> list[str]:
    """Why the champion won, with whom it ties, and which better finalist was refused."""
    if facts.winner is None or not facts.confirmed_winner:
        return []
    written = [f"It won as {verdict.reason}." for verdict in facts.verdicts if verdict.outcome is Outcome.WON]
    tied = [v.finalist for v in facts.verdicts if v.outcome is Outcome.TIED]
    if tied:
        names = ", ".join(facts.label(finalist.explored) for finalist in tied)
        written.append(f"It is tied with {names}: it takes more fresh seeds to separate them.")
    ours = facts.winner.validation["objective"].mean
    for verdict in facts.verdicts:
        better = verdict.finalist.validation["objective"].mean > ours
        if better and verdict.outcome in (Outcome.INFEASIBLE, Outcome.LOST):
            label = facts.label(verdict.finalist.explored)
            needed = facts.document.space.confirm.needed
            written.append(f"{label} has the better mean {facts.goal}, but {_why(verdict, needed)}.")
    return written


def _why(verdict: Verdict, needed: int) -> str:
    """Why a finalist with a better mean lost, as the rest of a sentence."""
    if verdict.outcome is Outcome.LOST and len(verdict.finalist.judges) < needed:
        return f"was {verdict.reason}"
    if verdict.outcome is Outcome.LOST:
        return f"is {verdict.reason} by the estimate that also counts what exploring showed"
    return verdict.reason


def _against_the_most_accurate(facts: StudyFacts) -> list[str]:
    beside = facts.comparison
    if beside is None:
        return ["It is also the most accurate network."]
    size, weights = (compared(*beside.size(name)) for name in ("parameters", "parameters_weights"))
    as_paper = f" ({weights}, counting only the weights of convolutions and linear layers)"
    smaller = f"has {size} parameters{as_paper if weights != size else ''}"
    label = facts.label(beside.reference)
    if not beside.confirmed:
        return [
            f"When exploring, the {facts.title} was {beside.lost} accurate than the most accurate network, "
            f"{label}, on one seed each, and {smaller}."
        ]
    return [
        f"The {facts.title} is {beside.lost} accurate than the reference network {label}, the most accurate "
        f"one found, and {smaller}: both on the test split, trained on the same "
        f"{counted(beside.points.n, 'fresh seed')}."
    ]


def _held_back(facts: StudyFacts) -> list[str]:
    winner = facts.champion
    measured = {} if winner is None else {n: winner.metrics.get(f"efficiency/{n}") for n in facts.layers}
    layers = {name: value for name, value in measured.items() if value is not None}
    if len(set(layers.values())) < 2:
        return []
    low, high = min(layers, key=lambda n: layers[n]), max(layers, key=lambda n: layers[n])
    return [
        f"Its layer {high} uses its neurons best (efficiency {layers[high]:.2f}); {low} holds it back "
        f"({layers[low]:.2f})."
    ]


def comparison(facts: StudyFacts) -> list[tuple[str, str, str, str]]:
    """Rows of the champion's table: name, champion, reference network, note."""
    beside = facts.comparison
    if facts.winner is None:
        return []
    reference = beside.reference if beside is not None else facts.winner.explored
    rows = [("network", facts.label(facts.winner.explored), facts.label(reference), "")]
    rows += [*_validated(facts, reference), *_tested(facts, beside)]
    for split in ("validation", "test"):
        majority = facts.document.dataset.majority(split)
        if majority is not None:
            note = f"always naming the commonest class reaches {majority:.4f}"
            rows = [
                (*row[:3], _both(row[3], note)) if row[0] == f"accuracy, {split}" else row for row in rows
            ]
    return [*rows, *_sizes_and_values(facts, facts.winner.explored, reference)]


def _validated(facts: StudyFacts, reference: TrialRecord) -> list[tuple[str, str, str, str]]:
    """The validation split: the champion's fresh seeds, and the one that showed the reference network."""
    validation = {} if facts.winner is None else facts.winner.validation
    return [
        (
            _words(name) if name in COSTS else f"{_words(name)}, validation",
            _spread(name, value),
            _number(name, reference.metrics.get(name)),
            "",
        )
        for name, value in validation.items()
        if name != "objective"
    ]


def _tested(facts: StudyFacts, beside: Comparison | None) -> list[tuple[str, str, str, str]]:
    """The test split, on fresh seeds that had no part in the choice."""
    theirs = {} if beside is None else beside.spreads(beside.theirs)
    rows = []
    for name, value in ({} if facts.winner is None else facts.winner.test).items():
        note = f"mean of {counted(value.n, 'seed')}"
        there = theirs.get(name)
        if there is not None:
            note += "" if there.n == value.n else f"; of {there.n} of them for the reference network"
        reference = "" if there is None else _spread(name, there)
        rows.append((f"{_words(name)}, test", _spread(name, value), reference, note))
    return rows


def _sizes_and_values(
    facts: StudyFacts, winner: TrialRecord, reference: TrialRecord
) -> list[tuple[str, str, str, str]]:
    rows = []
    for name in SIZES:
        if name in winner.metrics and name in reference.metrics:
            sizes = [f"{record.metrics[name]:,.0f}" for record in (winner, reference)]
            rows.append((_words(name), sizes[0], sizes[1], _compared(winner, reference, name)))
    both = winner.params.keys() | reference.params.keys()
    rows += [
        (name, _value(winner, name), _value(reference, name), "") for name in facts.rules if name in both
    ]
    return rows


def findings(facts: StudyFacts) -> list[str]:
    """What the counts suggest to do next; the doctor adds what the space and the pruner suggest."""
    found = list(facts.document.dataset.warnings)
    failed = sum(r.state is TrialState.FAIL for r in facts.explored)
    if failed:
        of = counted(len(facts.explored), "trial")
        found.append(f"{failed} of {of} failed; `aiq trials {facts.id}` gives the reasons.")
    if facts.winner is not None and not facts.winner.judges:
        found.append(
            "The best so far was trained once: its numbers are partly luck until it is confirmed on fresh "
            "seeds."
        )
    return found


def commands(facts: StudyFacts) -> str:
    """Commands to reproduce and to export."""
    lines = [
        ("# the same search again", command_line(facts.document)),
        ("# more trials for this study", f"aiq resume {facts.id} --trials {2 * max(1, len(facts.explored))}"),
        (
            "# the champion as files, and the proof that they are right",
            f"aiq export {facts.id} --output champion/",
        ),
        ("", "aiq verify champion/"),
        ("# every run, in MLflow", f"aiq ui {facts.id}"),
    ]
    return "\n".join(part for line in lines for part in line if part)


def footer(facts: StudyFacts) -> str:
    """Where the numbers come from."""
    document, dataset, provenance = facts.document, facts.document.dataset, facts.document.provenance
    parts = [
        f"Data set {dataset.name} (digest {dataset.digest})",
        f"{facts.observations:,} observations",
        f"states captured {document.capture}",
        f"beta {facts.beta:g}",
        f"seed {document.seed}",
        f"space {facts.space}, fingerprint {document.fingerprint}",
        f"commit {provenance.git_commit}" if provenance.git_commit else "",
        ", ".join(f"{name} {version}" for name, version in provenance.versions.items()),
    ]
    return " · ".join(p for p in parts if p)


def _compared(one: TrialRecord, other: TrialRecord, name: str) -> str:
    return compared(one.metrics.get(name, 0.0), other.metrics.get(name, 0.0))


def _number(name: str, value: float | None) -> str:
    return "" if value is None else shown(name, value)


def _spread(name: str, value: Spread) -> str:
    return shown(name, value.mean, value.sd if value.n > 1 else None)


def _both(one: str, other: str) -> str:
    return "; ".join(part for part in (one, other) if part)


def _words(name: str) -> str:
    return {
        "aiq": "aIQ",
        INT8_ACCURACY: "accuracy in eight bits",
        "activation_bytes": "activations at once, bytes",
        "latency_ms": "milliseconds of a sample",
        "parameters_weights": "parameters, convolution and linear weights only",
        "macs": "multiply-accumulates",
    }.get(name, name)


def _value(record: TrialRecord, name: str) -> str:
    value = record.params.get(name, "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
