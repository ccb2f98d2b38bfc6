"""The majority baseline: what always naming the commonest class reaches, and whether a champion beats it."""

from __future__ import annotations

import math

from aiq_search.study.champion import Champion
from aiq_search.study.document import StudyDocument
from aiq_search.training.measures import measure_of_the_commonest

__all__ = ["chance_problem"]


def chance_problem(document: StudyDocument, champion: Champion) -> str | None:
    """Why a champion is no better than always naming the commonest class; None where it clearly is.

    Clearly: its mean accuracy over the judging seeds, minus one standard error, is above the share of that
    class in the validation split; or, where aIQ has another accuracy (``objective.accuracy``), the
    same of that.

    Args:
        document: The study's; ``confirm.require_better_than_chance`` of its space turns this off.
        champion: The champion.
    """
    majority = document.dataset.majority("validation")
    if majority is None or not document.space.confirm.require_better_than_chance:
        return None
    name = document.space.objective.accuracy
    majority = measure_of_the_commonest(name, document.dataset.class_counts["validation"])
    accuracy = champion.validation[name]
    error = accuracy.sd / math.sqrt(accuracy.n)
    if accuracy.mean - error > majority:
        return None
    reached = f"{accuracy.mean:.2%}" + (f" ± {error:.2%}" if accuracy.n > 1 else "")
    return (
        f"trial {champion.trial} is not clearly better than chance: its {name} is {reached}, and always "
        f"naming the commonest class reaches {majority:.2%}. Train longer (training.epochs), search other "
        "learning rates, or accept it: confirm.require_better_than_chance: false."
    )
