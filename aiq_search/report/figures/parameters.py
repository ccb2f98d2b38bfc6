"""Effect of the parameters: importances, slices, parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aiq_search.report.figures.facts import StudyFacts, sampled
from aiq_search.report.figures.style import BLUE, SCALE, figure, style

if TYPE_CHECKING:
    from aiq_search.study.record import TrialRecord

__all__ = ["importances", "parallel_coordinates", "slices"]

FEWEST = 8  # complete trials, below which an importance would be noise
MOST = 400  # trials that the importances are computed from; more take long and change nothing


def importances(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """Share of the objective's variance that each parameter explains (fANOVA)."""
    values = _importances(facts)
    if not values:
        return None
    ordered = sorted(values.items(), key=lambda item: item[1])
    bar = go.Bar(
        x=[v for _, v in ordered],
        y=[_short(n) for n, _ in ordered],
        orientation="h",
        marker={"color": BLUE},
        text=[f"{v:.0%}" for _, v in ordered],
        textposition="auto",
        textangle=0,
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    drawn = figure([bar], f"share of the variance of {facts.goal}", "", height=110 + 34 * len(ordered))
    drawn.update_xaxes(tickformat=".0%")
    first = [n for n, _ in ordered[::-1][: min(2, max(1, len(ordered) - 1))]]
    return drawn, (
        f"{' and '.join(first)} decided most. The shares are of the differences between complete trials; a "
        "parameter that the sampler soon settled seems less important than it is."
    )


def _importances(facts: StudyFacts) -> dict[str, float]:
    import optuna

    records = sampled(facts.complete, MOST)
    if len(records) < FEWEST:
        return {}
    names = [n for n in facts.rules if len({_plain(r.params.get(n)) for r in records}) > 1]
    names = [n for n in names if all(n in r.params for r in records)]
    if not names:
        return {}
    ranges = {n: _distribution(facts.rules[n], [r.params[n] for r in records]) for n in names}
    study = _quiet_study()
    for record in records:
        params = {n: _plain(record.params[n]) for n in names}
        trial = optuna.trial.create_trial(params=params, distributions=ranges, value=facts.score(record))
        study.add_trial(trial)
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (RuntimeError, ValueError):  # all trials have the same value
        return {}


def _quiet_study() -> Any:  # noqa: ANN401 - Optuna's
    """An Optuna study in memory, made without the line that Optuna would log."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(before)


def _distribution(rule: Any, values: Sequence[Any]) -> Any:  # noqa: ANN401 - JSON in, Optuna's out
    import optuna

    if rule.get("type") == "categorical" or not all(_is_number(v) for v in values):
        return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(_plain(v) for v in values)))
    low, high = min(map(float, values)), max(map(float, values))
    return optuna.distributions.FloatDistribution(low, high, log=bool(rule.get("log")) and low > 0)


def slices(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """The objective against each parameter; the colour is the trial's number."""
    names = list(facts.rules)
    if not names or not facts.complete:
        return None
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    drawn = make_subplots(
        rows, columns, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.34 / rows
    )
    for i, name in enumerate(names):
        records = [r for r in facts.drawn if name in r.params]
        drawn.add_trace(_slice(facts, name, records), i // columns + 1, i % columns + 1)
    style(drawn, 60 + 230 * rows)
    for i, (name, rule) in enumerate(facts.rules.items()):
        log = _log_axis(rule) if rule.get("log") else {}
        drawn.update_xaxes(
            title={"text": _short(name), "standoff": 4}, row=i // columns + 1, col=i % columns + 1, **log
        )
    drawn.update_yaxes(title=facts.goal, col=1)
    return drawn, (
        "Each point is a complete trial; later ones are more orange. If the best points are at the edge of a "
        "range, widen it; if they are spread over all of it, the parameter may be left out." + facts.sample
    )


def _slice(facts: StudyFacts, name: str, records: Sequence[TrialRecord]) -> go.Scatter:
    numeric = all(_is_number(r.params[name]) for r in records)
    return go.Scatter(
        x=[r.params[name] if numeric else str(r.params[name]) for r in records],
        y=[facts.shown(facts.score(r)) for r in records],
        text=[facts.label(r) for r in records],  # the whole hover text would make the file six times larger
        hovertemplate="%{text}<br>%{x}: %{y:.4f}<extra></extra>",
        mode="markers",
        showlegend=False,
        marker={"size": 6, "color": [r.key.number for r in records], "colorscale": SCALE, "opacity": 0.8},
    )


def parallel_coordinates(facts: StudyFacts) -> tuple[go.Figure, str] | None:
    """Every complete trial as a line through its parameters and its numbers."""
    records = [r for r in facts.drawn if all(n in r.params for n in facts.rules)]
    if len(records) < 2 or not facts.rules:
        return None
    dimensions = [_dimension(name, rule, records) for name, rule in facts.rules.items()]
    for name in ("parameters", "efficiency", "accuracy", "aiq"):
        values = [r.metrics.get(name, 0.0) for r in records]
        dimensions.append(
            _logarithmic(name, values) if name == "parameters" else {"label": name, "values": values}
        )
    line = {"color": [facts.shown(facts.score(r)) for r in records], "colorscale": SCALE, "showscale": False}
    drawn = go.Figure(go.Parcoords(dimensions=dimensions, line=line, unselected={"line": {"opacity": 0.08}}))
    style(drawn, 440)
    drawn.update_layout(margin={"l": 60, "r": 40, "t": 70, "b": 30})
    return drawn, (
        f"Orange lines have more {facts.goal}. Drag along an axis to keep only the trials that pass "
        "there, for example the highest aIQ, and see which parameters they share." + facts.sample
    )


def _dimension(name: str, rule: Any, records: Sequence[TrialRecord]) -> dict[str, Any]:  # noqa: ANN401 - JSON
    values = [r.params[name] for r in records]
    if rule.get("type") == "categorical" or not all(_is_number(v) for v in values):
        choices = list(dict.fromkeys(str(v) for v in rule.get("choices", values)))
        choices += sorted({str(v) for v in values} - set(choices))
        return {
            "label": _short(name),
            "values": [choices.index(str(v)) for v in values],
            "tickvals": list(range(len(choices))),
            "ticktext": choices,
        }
    if rule.get("log"):
        return _logarithmic(_short(name), values)
    return {"label": _short(name), "values": values}


def _logarithmic(label: str, values: Sequence[float]) -> dict[str, Any]:
    """A dimension on a log axis, which parallel coordinates lack: logs, with ticks that say numbers."""
    logs = [math.log10(max(v, 1e-12)) for v in values]
    ticks = _round_numbers(min(values), max(values))
    return {
        "label": label,
        "values": logs,
        "tickvals": [math.log10(t) for t in ticks],
        "ticktext": [f"{t:,g}" for t in ticks],
    }


def _log_axis(rule: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A log axis whose few ticks are whole numbers, not plotly's lone digits."""
    ticks = _round_numbers(float(rule["low"]), float(rule["high"]))
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{t:,g}" for t in ticks]}


def _round_numbers(low: float, high: float, most: int = 6) -> list[float]:
    """Some powers of two (from 1 on, up to 4096) or of ten between ``low`` and ``high``.

    >>> _round_numbers(2, 256), _round_numbers(0.001, 0.1)
    ([2, 8, 32, 128], [0.001, 0.01, 0.1])
    """
    base = 2 if low >= 1 and high <= 4096 else 10
    first, last = (f(math.log(max(v, 1e-12), base)) for f, v in ((_ceil, low), (_floor, high)))
    powers = [base**n if n >= 0 else float(f"1e{n}") for n in range(first, last + 1)]
    step = max(1, math.ceil(len(powers) / most))
    return powers[::step] or [low]


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)


def _floor(value: float) -> int:
    return math.floor(value + 1e-9)


def _short(name: str) -> str:
    """Name without its section: ``training.learning_rate`` -> ``learning_rate``."""
    return name.split(".", 1)[-1]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: object) -> Any:  # noqa: ANN401 - what Optuna takes as a choice
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
