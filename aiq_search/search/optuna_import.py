"""Warm start from an Optuna study of any origin: its best configurations are tried first.

Its values are those of another objective, so the sampler is not told them: it learns from what our own
training makes of the configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from aiq_search.errors import InputError, first_line
from aiq_search.redaction import redact
from aiq_search.space import Derived, Int, SearchSpace
from aiq_search.space.errors import shown
from aiq_search.study import is_study_id
from aiq_search.study.record import config_hash
from aiq_search.study.storage import open_journal
from aiq_search.suggest import did_you_mean
from aiq_search.words import counted

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["ImportedConfigurations", "import_configurations", "is_optuna_storage"]

# As many as Optuna's TPE draws at random before it models anything.
_MOST = 10

_EXPECTED = (
    "expected a study's id, a space's name, or an Optuna storage: sqlite:///old.db?study=NAME, another "
    "database's URL, or the path of a journal such as ./old.journal"
)


@dataclass(frozen=True)
class ImportedConfigurations:
    """Configurations of another study that are to be tried first.

    Attributes:
        points: Values by dotted name, the best configuration first.
        note: A sentence about what was taken, and what was not.
    """

    points: Sequence[dict[str, Any]]
    note: str


def is_optuna_storage(name: str) -> bool:
    """Whether what is given as a warm start is an Optuna storage, not one of our studies.

    >>> [is_optuna_storage(name) for name in ("digits", "sqlite:///old.db?study=x", "./old.journal")]
    [False, True, True]
    """
    return not is_study_id(name)


def import_configurations(space: SearchSpace, address: str) -> ImportedConfigurations:
    """Read the best configurations of an Optuna study, as far as they belong to a space.

    A parameter of theirs is one of ours if it has its dotted name, or what is behind the first dot of it.

    Args:
        space: The space.
        address: The storage: a database's URL or the path of a journal, and ``?study=NAME`` unless it has one
            study only.

    Raises:
        InputError: The storage cannot be read, has no such study, or nothing of it belongs to the space.
    """
    what = f"--warm-start {shown(redact(address), quoted=False)}"
    if space.search.sampler.name == "grid":
        raise InputError(f"{what}: a grid tries every configuration anyway; leave that out.")
    place, name = _parsed(address)
    study = _study(_storage(place, what), name, what)
    called = f"Optuna study {shown(study.study_name)}"
    trials = _best_first(study)
    if not trials:
        raise InputError(f"{what}: {called} has no complete trial; name another study.")
    theirs = list(dict.fromkeys(name for trial in trials for name in trial.params))
    names = _matched(space, theirs)
    points: dict[str, dict[str, Any]] = {}
    for trial in trials:
        point = _point(space, names, trial.params)
        if point and space.allows(point) and len(points) < _MOST:
            points.setdefault(config_hash(point), point)
    if not points:
        listed = ", ".join(shown(each, quoted=False) for each in theirs) or "none"
        raise InputError(
            f"{what}: no value of the parameters of {called} ({listed}) belongs to this space; expected "
            f"parameters such as {', '.join(space.parameters)}, with values in their ranges."
        )
    taken = list(dict.fromkeys(name for point in points.values() for name in point))
    left = [each for each in theirs if names.get(each) not in taken]
    return ImportedConfigurations(list(points.values()), _note(called, len(points), taken, left))


def _note(called: str, number: int, taken: Sequence[str], left: Sequence[str]) -> str:
    note = f"Warm start: {counted(number, 'configuration', 'were')} taken from {called}, to be tried first, "
    note += f"with {', '.join(taken)}"
    if left:
        names = ", ".join(shown(each, quoted=False) for each in left)
        note += (
            f"; left out {'was' if len(left) == 1 else 'were'} {counted(len(left), 'parameter')} that this "
        )
        note += f"space does not have, or has with another range: {names}"
    return f"{note}."


def _parsed(address: str) -> tuple[str, str | None]:
    """The storage, and the study that is named behind it.

    >>> _parsed("postgresql://host/db?sslmode=require&study=old")
    ('postgresql://host/db?sslmode=require', 'old')
    >>> _parsed("./old.journal")
    ('./old.journal', None)
    """
    place, _, query = address.rpartition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    names = [value for key, value in pairs if key == "study"]
    if not place or not names:
        return address, None
    rest = [(key, value) for key, value in pairs if key != "study"]
    return place + (f"?{urlencode(rest)}" if rest else ""), names[-1]


def _storage(place: str, what: str) -> BaseStorage:
    """A storage, opened to read; neither a file nor a table is created where there is none.

    Raises:
        InputError: It cannot be read.
    """
    from sqlalchemy.engine import make_url

    try:
        if "://" not in place:
            _check_file(Path(place), what)
            return open_journal(Path(place))
        url = make_url(place)
        if url.get_backend_name() == "sqlite":
            _check_file(Path(url.database or ""), what)
        from optuna.storages import RDBStorage

        return RDBStorage(place, skip_table_creation=True)
    except InputError as error:
        if str(error).startswith(what):
            raise
        raise InputError(f"{what}: {error}") from None
    except Exception as error:  # SQLAlchemy's, the driver's, and Optuna's own
        reason = redact(first_line(error))
        raise InputError(f"{what}: cannot be read as an Optuna storage ({reason}); {_EXPECTED}.") from None


def _check_file(path: Path, what: str) -> None:
    if not path.is_file():
        raise InputError(f"{what}: there is no file {shown(str(path), quoted=False)}; {_EXPECTED}.")


def _study(storage: BaseStorage, name: str | None, what: str) -> optuna.Study:
    """The study of a name, or the only one.

    Raises:
        InputError: There is none, or several without a name.
    """
    import optuna

    try:
        names = [each.study_name for each in storage.get_all_studies()]
        if name is None and len(names) == 1:
            name = names[0]
        if name in names:
            return optuna.load_study(study_name=name, storage=storage)
    except Exception as error:  # a database without Optuna's tables, or a damaged one
        reason = redact(first_line(error))
        raise InputError(f"{what}: cannot be read as an Optuna storage ({reason}); {_EXPECTED}.") from None
    if not names:
        raise InputError(f"{what}: the storage has no study; name another one.")
    listed = [shown(each, quoted=False) for each in names]
    if name is None:
        raise InputError(f"{what}: the storage has several studies; add ?study=NAME: {', '.join(listed)}.")
    raise InputError(f"{what}: the storage has no study {shown(name)}; {did_you_mean(name, listed)}")


def _best_first(study: optuna.Study) -> list[FrozenTrial]:
    """The complete trials, those that meet their constraints and have the best values first.

    Of several objectives, those that no other beats in all of them.
    """
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    if len(study.directions) > 1:
        return list(study.best_trials)
    sign = -1 if study.direction is StudyDirection.MAXIMIZE else 1
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(trials, key=lambda trial: (not _feasible(trial), sign * (trial.value or 0.0)))


def _feasible(trial: FrozenTrial) -> bool:
    return all(violation <= 0 for violation in trial.constraints.values())


def _matched(space: SearchSpace, theirs: Sequence[str]) -> dict[str, str]:
    """Our name of each of their parameters that we search too."""
    searched = {name: p for name, p in space.parameters.items() if not isinstance(p, Derived)}
    short = [name.partition(".")[2] for name in searched]
    names = {tail: name for tail, name in zip(short, searched, strict=True) if short.count(tail) == 1}
    names |= {parameter.optuna_name(name): name for name, parameter in searched.items()}
    names |= {name: name for name in searched}
    return {each: names[each] for each in theirs if each in names}


def _point(space: SearchSpace, names: Mapping[str, str], params: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as far as its values are in our ranges."""
    point = {}
    for theirs, value in params.items():
        name = names.get(theirs)
        if name is None:
            continue
        parameter = space.parameters[name]
        if isinstance(parameter, Int):
            if parameter.powers_of is not None and theirs == parameter.optuna_name(name):
                value = parameter.powers_of**value if 0 <= value < 64 else None  # kept as an exponent
            elif isinstance(value, float) and value.is_integer():
                value = int(value)
        if not isinstance(parameter, Derived) and parameter.contains(value):
            point[name] = value
    return point
