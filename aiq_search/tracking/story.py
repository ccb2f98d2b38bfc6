"""A study in sentences: who won, by how much, why, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiq_search.search.events import TrialState
from aiq_search.tracking.figures.facts import Finalist, StudyFacts
from aiq_search.tracking.layout import ONCE, SHOWN, command_line

if TYPE_CHECKING:
    from aiq_search.search.record import TrialRecord

__all__ = ["commands", "comparison", "findings", "footer", "headline", "sentences", "tiles"]

Champion = Mapping[str, Any] | None


def headline(facts: StudyFacts, champion: Champion) -> str:
    """The result in one line."""
    winner = facts.champion
    if winner is None:
        return "No network met every constraint" if facts.complete else "No trial is complete yet"
    mean, deviation, count = numbers(facts, champion, "validation")["aiq"]
    spread = f" ± {deviation:.3f}" if count > 1 else ""
    size = winner.metrics.get("parameters", 0)
    return f"{facts.label(winner)} won: aIQ {mean:.3f}{spread} with {size:,.0f} parameters"


def numbers(facts: StudyFacts, champion: Champion, split: str) -> dict[str, tuple[float, float, int]]:
    """Mean, standard deviation and number of seeds of the champion's numbers on a split."""
    if champion:
        spreads = (champion.get("metrics") or {}).get(split) or {}
        return {
            n: (spreads[n]["mean"], spreads[n]["sd"] or 0.0, spreads[n]["n"]) for n in SHOWN if n in spreads
        }
    prefix = "test/" if split == "test" else ""
    winner = facts.champion
    final = next((f for f in facts.finalists if f.explored is winner), None)
    if final is not None:
        seeds = Finalist(final.explored, final.tests) if split == "test" else final
        return {
            n: (seeds.mean(prefix + n), seeds.deviation(prefix + n), len(seeds.confirmed))
            for n in SHOWN
            if any(prefix + n in r.metrics for r in seeds.confirmed)
        }
    if winner is None:
        return {}
    return {n: (winner.metrics[prefix + n], 0.0, 1) for n in SHOWN if prefix + n in winner.metrics}


def tiles(facts: StudyFacts, champion: Champion) -> list[tuple[str, str, str]]:
    """The few numbers that one sees first: name, value, note."""
    if facts.champion is None:
        return []
    validation, test = numbers(facts, champion, "validation"), numbers(facts, champion, "test")
    seeds = validation["aiq"][2]
    shown = [
        ("aIQ", "aiq", "{:.3f}"),
        ("accuracy", "accuracy", "{:.2%}"),
        ("efficiency", "efficiency", "{:.3f}"),
    ]
    made = []
    for title, name, form in shown:
        note = f"test {form.format(test[name][0])}" if name in test else f"validation, {_seeds(seeds)}"
        made.append((title, form.format(validation[name][0]), note))
    metrics = facts.champion.metrics
    made.append(("parameters", f"{metrics.get('parameters', 0):,.0f}", f"{metrics.get('macs', 0):,.0f} MACs"))
    return made


def sentences(facts: StudyFacts, champion: Champion) -> list[str]:
    """Who won, by how much, and why."""
    told = [_counts(facts)]
    if facts.champion is None:
        return told
    told += _lead(facts) + _beside_the_most_accurate(facts) + _held_back(facts)
    return told


def _counts(facts: StudyFacts) -> str:
    by_state = {s: sum(r.state is s for r in facts.explored) for s in TrialState}
    said = [f"{by_state[TrialState.COMPLETE]} trained to the end"]
    said += [f"{by_state[TrialState.PRUNED]} stopped early"] if by_state[TrialState.PRUNED] else []
    said += [f"{by_state[TrialState.FAIL]} failed"] if by_state[TrialState.FAIL] else []
    said += [f"{by_state[TrialState.RUNNING]} unfinished"] if by_state[TrialState.RUNNING] else []
    collapsed = sum(r.collapsed for r in facts.explored)
    said += [f"{collapsed} collapsed"] if collapsed else []
    text = f"{len(facts.explored)} configurations were tried: {', '.join(said)}."
    if facts.finalists:
        text += f" The best {len(facts.finalists)} were trained again on fresh seeds."
    return text


def _lead(facts: StudyFacts) -> list[str]:
    if len(facts.finalists) < 2:
        return []
    winner = next((f for f in facts.finalists if f.explored is facts.champion), None)
    others = [f for f in facts.finalists if f is not winner]
    if winner is None or not others:
        return []
    name = facts.objective
    lead = facts.sign * (winner.mean(name) - others[0].mean(name))
    return [
        f"It leads {facts.label(others[0].explored)} by {lead:.3f} of mean {name}; over its own seeds it "
        f"varies by ± {winner.deviation(name):.3f}."
    ]


def _beside_the_most_accurate(facts: StudyFacts) -> list[str]:
    winner, accurate = facts.champion, facts.most_accurate
    if winner is None or accurate is None or accurate is winner:
        return ["It is also the most accurate network."] if accurate is winner else []
    lost = 100 * (accurate.metrics["accuracy"] - winner.metrics["accuracy"])  # one seed against one
    return [
        f"When exploring, the most accurate network, {facts.label(accurate)}, was {lost:.2f} points better; "
        f"it has {_times(accurate, winner, 'parameters')} times as many parameters ("
        f"{_times(accurate, winner, 'parameters_weights')} times counting only the weights of its layers)."
    ]


def _held_back(facts: StudyFacts) -> list[str]:
    winner = facts.champion
    layers = {n: winner.metrics[f"efficiency/{n}"] for n in facts.layers} if winner else {}
    if len(layers) < 2:
        return []
    low, high = min(layers, key=lambda n: layers[n]), max(layers, key=lambda n: layers[n])
    return [
        f"Its layer {high} uses its neurons best (efficiency {layers[high]:.2f}); {low} holds it back "
        f"({layers[low]:.2f})."
    ]


def comparison(facts: StudyFacts, champion: Champion) -> list[tuple[str, str, str, str]]:
    """Rows of the champion's table: name, champion, most accurate trial, note."""
    winner, accurate = facts.champion, facts.most_accurate
    if winner is None or accurate is None:
        return []
    validation, test = numbers(facts, champion, "validation"), numbers(facts, champion, "test")
    rows = [("network", facts.label(winner), facts.label(accurate), "")]
    for name in SHOWN:
        if name in validation:
            rows.append(
                (f"{name}, validation", _spread(validation[name]), f"{accurate.metrics[name]:.4f}", "")
            )
    for name, value in test.items():
        rows.append((f"{name}, test", _spread(value), "", f"mean of {_seeds(value[2])}"))
    for name in ONCE:
        if name in winner.metrics and name in accurate.metrics:
            note = f"{_times(accurate, winner, name)} times"
            rows.append(
                (_words(name), f"{winner.metrics[name]:,.0f}", f"{accurate.metrics[name]:,.0f}", note)
            )
    both = winner.params.keys() | accurate.params.keys()
    for name in [n for n in facts.rules if n in both]:
        rows.append((name, _value(winner, name), _value(accurate, name), ""))
    return rows


def findings(facts: StudyFacts) -> list[str]:
    """What the numbers suggest to do next."""
    told = []
    best = facts.ranked[: max(3, len(facts.ranked) // 10)]
    for name, rule in facts.rules.items():
        values = [r.params[name] for r in best if isinstance(r.params.get(name), int | float)]
        low, high = rule.get("low"), rule.get("high")
        if len(values) < 3 or low is None or high is None:
            continue
        for bound, word in ((low, "lower"), (high, "upper")):
            near = sum(abs(_position(v, low, high, rule) - (word == "upper")) < 0.03 for v in values)
            if near > len(values) / 2:
                told.append(
                    f"{near} of the best {len(values)} trials have {name} at the {word} edge of its range "
                    f"({bound}): widen it there."
                )
    states = [r.state for r in facts.explored]
    failed = states.count(TrialState.FAIL)
    if failed > 0.1 * len(states):
        told.append(f"{failed} of {len(states)} trials failed; `aiq trials {facts.id}` gives the reasons.")
    collapsed = sum(r.collapsed for r in facts.explored)
    if collapsed > 0.1 * max(1, len(facts.complete)):
        told.append(f"{collapsed} trials collapsed: lower the learning rate, or raise the narrowest width.")
    missing = sum(r.feasible is False for r in facts.complete)
    if facts.complete and missing == len(facts.complete):
        told.append("No trial met every constraint: relax one, widen the ranges, or train longer.")
    if not facts.finalists and facts.champion is not None:
        told.append(
            "The champion was trained once: its numbers are partly luck until it is confirmed on fresh seeds."
        )
    return told


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
    document = facts.document
    dataset = document.get("dataset") or {}
    versions = ", ".join(f"{n} {v}" for n, v in (document.get("versions") or {}).items())
    parts = [
        f"Data set {dataset.get('name')} (digest {dataset.get('digest')})",
        f"{facts.observations:,} observations",
        f"states captured {document.get('capture', 'after')} each hidden layer",
        f"beta {facts.beta}",
        f"seed {document.get('seed')}",
        f"space {facts.space}, fingerprint {document.get('fingerprint')}",
        f"commit {document['git_commit']}" if document.get("git_commit") else "",
        versions,
    ]
    return " · ".join(p for p in parts if p)


def _position(value: float, low: float, high: float, rule: Mapping[str, Any]) -> float:
    """Where a value lies in its range, from 0 to 1, on the range's own scale."""
    if rule.get("log") and low > 0:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low) if high > low else 0.5


def _times(one: TrialRecord, other: TrialRecord, name: str) -> str:
    ratio = one.metrics.get(name, 0.0) / max(1.0, other.metrics.get(name, 0.0))
    return f"{ratio:,.0f}" if ratio >= 20 else f"{ratio:.1f}"


def _spread(value: tuple[float, float, int]) -> str:
    mean, deviation, count = value
    return f"{mean:.4f} ± {deviation:.4f}" if count > 1 else f"{mean:.4f}"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _words(name: str) -> str:
    return {
        "parameters_weights": "parameters, convolution and linear weights only",
        "macs": "multiply-accumulates",
    }.get(name, name)


def _value(record: TrialRecord, name: str) -> str:
    value = record.params.get(name, "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
