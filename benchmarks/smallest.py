"""The smallest network of a search, for docs/smallest.md.

    aiq search mnist_smallest --study smallest
    python -m benchmarks.smallest smallest [OTHER …] --output docs/smallest.md

Prints the confirmed champion of each study, its finalists, what each of its layers consists of, and the most
accurate networks of each size that were explored. Every number comes from the study.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from aiq_search.study import Phase, Study
from aiq_search.study.champion import Champion, judge_finalists
from aiq_search.study.home import aiq_home
from aiq_search.study.record import TrialRecord
from benchmarks.pages import publish

BEGIN, END = "<!-- python -m benchmarks.smallest -->", "<!-- end -->"

# Sizes, in parameters, up to which the most accurate explored network is shown.
STEPS = (400, 450, 500, 550, 575, 600, 650, 700)


def champions(studies: list[Study]) -> str:
    """A row a study: parameters, and mean and standard deviation over the champion's fresh seeds."""
    lines = [
        "| study | searched for | parameters | multiply-accumulates | test accuracy | validation accuracy | "
        "test efficiency | test aIQ | seeds |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for study in studies:
        champion, objective = study.champion(), study.space.objective
        wanted = ", ".join(f"{way} {name}" for name, way in objective.directions)
        test = [spread(champion, f"test/{name}") for name in ("accuracy", "efficiency", "aiq")]
        cells = [
            f"`{study.space.name}`",
            "; ".join([wanted, *(str(c) for c in objective.number_constraints)]),
            f"{champion.record.metrics['parameters']:,.0f}",
            f"{champion.record.metrics['macs']:,.0f}",
            test[0],
            spread(champion, "accuracy"),
            *test[1:],
            str(len(champion.further)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(champion: Champion, name: str) -> str:
    """Mean and standard deviation over the seeds that had no part in the choice."""
    metrics = champion.test if name.startswith("test/") else champion.validation
    found = metrics[name.removeprefix("test/")]
    return f"{found.mean:.4f} ± {found.sd:.4f}"


def finalists(study: Study) -> str:
    """A row a finalist: its mean over the fresh seeds that it got in the race."""
    lines = [
        "| trial | parameters | explored, one seed | fresh seeds | mean validation accuracy |",
        "|---:|---:|---:|---:|---:|",
    ]
    explored = study.records(Phase.EXPLORE)
    judged = judge_finalists(study.space, explored, study.records(Phase.CONFIRM), study.finalists)
    for finalist in sorted(judged, key=lambda f: f.explored.metrics["parameters"]):
        cells = [
            str(finalist.trial),
            f"{finalist.explored.metrics['parameters']:,.0f}",
            f"{finalist.explored.metrics['accuracy']:.4f}",
            str(len(finalist.judges)),
            f"{finalist.validation['accuracy'].mean:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def layers(study: Study) -> str:
    """A row a module that has parameters, in the order in which data flow."""
    model = study.architecture(study.champion().params).build()
    lines = ["| layer | parameters | |", "|---|---:|---|"]
    for name, module in model.named_modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if own or isinstance(module, nn.MaxPool2d | nn.AdaptiveAvgPool2d):
            lines.append(f"| `{name}` | {own or ''} | `{module}` |")
    return "\n".join(lines)


def front(study: Study) -> str:
    """The most accurate network of each size that was explored: one seed each, on the validation split."""
    lines = ["| at most so many parameters | most accurate | parameters | accuracy |", "|---:|---|---:|---:|"]
    trained = [r for r in study.records(Phase.EXPLORE) if r.epochs == study.space.training.epochs]
    for step in STEPS:
        small = [record for record in trained if record.metrics["parameters"] <= step]
        if small:
            best = max(small, key=lambda record: record.metrics["accuracy"])
            numbers = f"{best.metrics['parameters']:,.0f} | {best.metrics['accuracy']:.4f}"
            lines.append(f"| {step:,} | {widths(best)} | {numbers} |")
    return "\n".join(lines)


def widths(record: TrialRecord) -> str:
    """The widths of a configuration: ``3-3-4-5-6``."""
    depth = record.params["model.depth"]
    return "-".join(str(record.params[f"model.width{stage}"]) for stage in range(1, int(depth) + 1))


def main() -> None:
    """Print the tables, or put them into a page between its marks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="the smallest first")
    parser.add_argument("--home", type=Path, help="AIQ_HOME of the studies")
    parser.add_argument("--output", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    home = arguments.home or aiq_home()
    studies = [Study.open(name, home) for name in arguments.studies]
    first = studies[0]
    explored = first.records(Phase.EXPLORE)
    epochs = sum(record.epochs for record in explored)
    text = "\n\n".join(
        [
            champions(studies),
            f"`{first.space.name}` explored {len(explored)} configurations in {epochs:,} epochs. The race on "
            "fresh seeds, the smallest first:",
            finalists(first),
            "The network:",
            layers(first),
            "The most accurate explored network of each size, with one seed, on the validation split:",
            front(first),
        ]
    )
    publish(text, BEGIN, END, arguments.output)


if __name__ == "__main__":
    main()
