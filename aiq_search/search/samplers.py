"""Optuna's samplers by name, reseeded for each trial."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from aiq_search.errors import InputError
from aiq_search.space import SearchSpace
from aiq_search.space.options import SamplerOptions
from aiq_search.study.seeds import derive_seed
from aiq_search.suggest import did_you_mean

if TYPE_CHECKING:
    from optuna import Study

__all__ = ["STEERED_BY_CONSTRAINTS", "SeededSampler", "constraints_note", "create_sampler"]

_CLASSES: dict[str, Any] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    # The grid's cells are enqueued; what is asked beyond them is random.
    "grid": optuna.samplers.RandomSampler,
    "gp": optuna.samplers.GPSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
}

# Optuna makes arrays of some options.
_LARGEST_OPTION = 1_000_000

# The others use constraints only to choose the champion.
STEERED_BY_CONSTRAINTS = ("tpe", "gp", "nsga2")


class SeededSampler(BaseSampler):
    """A sampler whose randomness depends on the study's seed and the trial's number alone.

    A sampler seeded once repeats its first draws after a resume; this one draws for trial n what it
    would have drawn without an interruption.

    Args:
        create: Gives a sampler for a seed.
        study_seed: ``search.seed``.
    """

    def __init__(self, create: Callable[[int], BaseSampler], study_seed: int) -> None:
        self.create = create
        self.study_seed = study_seed
        self._sampler = create(study_seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take a fresh sampler for the trial."""
        self._sampler = self.create(self.seed_of(study, trial))
        self._sampler.before_trial(study, trial)

    def seed_of(self, study: Study, trial: FrozenTrial) -> int:
        """The seed of a trial's proposal."""
        return derive_seed(self.study_seed, "sampler", trial.number)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn together."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters that are drawn together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401
        """Draw one parameter by itself."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the sampler note a trial's end."""
        self._sampler.after_trial(study, trial, state, values)


def create_sampler(options: SamplerOptions, study_seed: int, *, conditional: bool) -> SeededSampler:
    """The sampler that a space file names.

    Args:
        options: Name, and options of Optuna's class.
        study_seed: ``search.seed``.
        conditional: Whether some parameters exist only under conditions; TPE then models each group
            of parameters that occur together.

    Raises:
        InputError: An option that the class does not take, or that excludes another.
    """
    cls = _CLASSES[options.name]
    given = dict(options.model_extra or {})
    check_options("search.sampler", cls, given)
    if options.name == "tpe":
        given = {"multivariate": True, "group": conditional, **given}
        if given["group"] and not given["multivariate"]:
            raise InputError(
                "search.sampler: with conditional parameters tpe models those together that occur together, "
                "which multivariate: false excludes; set group: false, too, or leave multivariate out."
            )

    def create(seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # group and constraints: no news to a user
            sampler: BaseSampler = cls(seed=seed, **given)
            return sampler

    try:
        return SeededSampler(create, study_seed)
    except (TypeError, ValueError) as error:
        raise InputError(f"search.sampler: {error}") from None


def constraints_note(space: SearchSpace) -> str | None:
    """A warning for users whose sampler ignores the constraints on reported numbers."""
    constraints = space.objective.number_constraints
    name = space.search.sampler.name
    if not constraints or name in STEERED_BY_CONSTRAINTS:
        return None
    said = " and ".join(map(str, constraints))
    only = "only decides" if len(constraints) == 1 else "only decide"
    *others, last = STEERED_BY_CONSTRAINTS
    return (
        f"sampler {name} does not steer by constraints: {said} {only} the champion; "
        f"{', '.join(others)} and {last} do."
    )


def check_options(where: str, cls: type, given: dict[str, Any]) -> None:
    """Raise InputError if a class of Optuna's does not take an option, or not this value of it."""
    parameters = {name: p for name, p in inspect.signature(cls).parameters.items() if name != "seed"}
    for name, value in given.items():
        if name not in parameters:
            hint = did_you_mean(name, parameters)
            raise InputError(f"{where}: {cls.__name__} has no option {name!r}; {hint}")
        kinds = _kinds(parameters[name].annotation)
        if _kind(value) not in kinds and not (_kind(value) == "int" and "float" in kinds):
            expected = " or ".join(sorted(kinds - {"None"})) or "a function, which a file cannot name"
            raise InputError(f"{where}: {name} must be {expected}, but got {value!r}")
        if isinstance(value, int | float) and abs(value) > _LARGEST_OPTION:
            raise InputError(f"{where}: {name} must be at most {_LARGEST_OPTION:,}, but got {value!r}")


def _kind(value: Any) -> str:  # noqa: ANN401
    return "None" if value is None else type(value).__name__


def _kinds(annotation: Any) -> set[str]:  # noqa: ANN401 - a type, or its text
    """The types of an annotation that a file can have."""
    names = getattr(annotation, "__name__", str(annotation)).split("|")
    return {name.strip() for name in names} & {"bool", "int", "float", "str", "None"}
