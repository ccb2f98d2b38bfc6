"""What a study looks like in MLflow."""

from __future__ import annotations

import dataclasses

from aiq_search.study.document import StudyDocument
from aiq_search.study.events import EpochEnded, Phase, TrialKey, TrialState
from aiq_search.tracking import layout
from aiq_search.tracking.study_facts import study_params
from tests.tracking.simulated import STUDY, SimulatedTrial, document, study_ended, trials

DOCUMENT = StudyDocument.parse(document(), "simulated")


def last(points: list[layout.Point], name: str) -> float:
    """The value that MLflow shows: that of the greatest (step, timestamp)."""
    return max((p for p in points if p.name == name), key=lambda p: (p.step, p.timestamp)).value


def all_points(trial: SimulatedTrial) -> list[layout.Point]:
    epochs = [e for e in trial.events() if isinstance(e, EpochEnded)]
    return [p for e in epochs for p in layout.epoch_points(e)] + layout.ended_points(trial.ended(), epochs)


def test_the_last_value_of_each_metric_is_that_of_the_chosen_epoch() -> None:
    trial = SimulatedTrial(0)
    assert trial.chosen < trial.epochs
    points = all_points(trial)
    for name, value in trial.ended().metrics.items():
        assert last(points, name) == value


def test_a_trial_whose_last_epoch_is_the_chosen_one_repeats_nothing() -> None:
    trial = SimulatedTrial(0, epochs=4)
    assert trial.chosen == 4
    assert len([p for p in all_points(trial) if p.name == "aiq"]) == 4


def test_the_repetition_is_the_latest_even_if_the_clock_went_back() -> None:
    trial = SimulatedTrial(0)
    epochs = [e for e in trial.events() if isinstance(e, EpochEnded)]
    early = dataclasses.replace(trial.ended(), time=trial.start - 3600)
    points = [p for e in epochs for p in layout.epoch_points(e)] + layout.ended_points(early, epochs)
    assert last(points, "aiq") == trial.ended().metrics["aiq"]


def test_an_end_without_known_epochs_still_has_its_numbers() -> None:
    trial = SimulatedTrial(0)
    points = layout.ended_points(trial.ended(), [])
    assert last(points, "aiq") == trial.ended().metrics["aiq"]


def test_infinity_and_nan_are_left_out() -> None:
    event = EpochEnded(
        TrialKey(STUDY, Phase.EXPLORE, 0), 1, {"loss": float("inf"), "aiq": float("nan"), "accuracy": 0.1}, 0
    )
    assert [p.name for p in layout.epoch_points(event)] == ["accuracy"]


def test_only_the_named_metrics_are_logged() -> None:
    names = {p.name for p in all_points(SimulatedTrial(0, phase=Phase.CONFIRM, origin=7, replicate=1))}
    per_layer = {n for n in names if n.startswith("efficiency/")}
    assert names - per_layer == {
        *("aiq", "accuracy", "efficiency", "loss", "train_loss", "parameters", "parameters_weights", "macs"),
        *("test/aiq", "test/accuracy", "test/efficiency"),
    }


def test_runs_are_named_by_number_and_widths_in_the_order_of_the_space() -> None:
    trial = SimulatedTrial(42, widths=(4, 2, 8))
    assert layout.child_name(DOCUMENT, trial.started()) == "trial-0042 4-2-8"
    again = SimulatedTrial(1, phase=Phase.CONFIRM, origin=42, replicate=3, widths=(4, 2, 8))
    assert layout.child_name(DOCUMENT, again.started()) == "confirm-0042-seed-3 4-2-8"


def test_a_confirmation_lies_under_the_trial_that_it_repeats() -> None:
    again = SimulatedTrial(1, phase=Phase.CONFIRM, origin=42, replicate=3)
    assert layout.parent_key(again.started()) == f"{STUDY}/explore/42"
    assert layout.parent_key(SimulatedTrial(42).started()) == STUDY
    assert layout.child_tags(DOCUMENT, again.started(), "run")["aiq.trial"] == "42"


def test_a_trial_that_is_run_again_names_the_failed_one() -> None:
    started = SimulatedTrial(7).started()
    again = dataclasses.replace(started, retry_of=0)
    assert layout.child_tags(DOCUMENT, again, "run")["aiq.retry_of"] == "0"
    assert "aiq.retry_of" not in layout.child_tags(DOCUMENT, started, "run")


def test_the_seeds_of_a_cell_share_its_hash_and_are_numbered() -> None:
    started = SimulatedTrial(7, replicate=2).started()
    tags = layout.child_tags(DOCUMENT, started, "run")
    assert (tags["aiq.config_hash"], tags["aiq.replicate"]) == (started.config_hash, "2")
    assert started.name == "trial-0007-seed-2"
    assert layout.parent_key(started) == STUDY
    assert "aiq.replicate" not in layout.child_tags(DOCUMENT, SimulatedTrial(7).started(), "run")


def test_a_child_has_every_tag_of_the_contract() -> None:
    trial = SimulatedTrial(9, state=TrialState.PRUNED)
    tags = layout.child_tags(DOCUMENT, trial.started(), "run") | layout.ended_tags(trial.ended())
    assert {
        *("aiq.study", "aiq.phase", "aiq.trial", "aiq.trial_key", "aiq.state", "aiq.reason", "aiq.seed"),
        *(
            "aiq.beta",
            "aiq.observations",
            "aiq.capture",
            "aiq.config_hash",
            "aiq.version",
            "mlflow.parentRunId",
        ),
    } <= set(tags)


def test_a_collapse_is_said() -> None:
    tags = layout.ended_tags(dataclasses.replace(SimulatedTrial(0).ended(), collapsed=True))
    assert tags["aiq.collapsed"] == "true"
    assert "zero entropy" in tags["aiq.reason"]


def test_a_pruned_trial_says_so_without_a_reason_of_its_own() -> None:
    ended = dataclasses.replace(SimulatedTrial(0, epochs=2, state=TrialState.PRUNED).ended(), reason=None)
    assert layout.ended_tags(ended)["aiq.reason"] == "stopped early by the pruner after 2 epochs"


def test_a_traceback_is_shown_in_the_run_without_credentials() -> None:
    failed = dataclasses.replace(
        SimulatedTrial(0, state=TrialState.FAIL).ended(),
        traceback="Traceback\n  connect('postgresql://ada:lovelace@db')\nValueError",
    )
    note = layout.ended_tags(failed)["mlflow.note.content"]
    assert "ValueError" in note
    assert "lovelace" not in note


def test_the_command_s_credentials_are_not_in_the_tags() -> None:
    assert "lovelace" not in str(layout.parent_tags(DOCUMENT))


def test_the_champion_s_means_are_the_parent_s_last_numbers() -> None:
    champion = study_ended(trials(3)).champion
    assert champion is not None
    points = layout.champion_points(champion, 1.0, 3)
    assert "objective" not in {p.name for p in points}
    assert {"aiq", "accuracy", "efficiency", "test/aiq", "parameters", "macs"} <= {p.name for p in points}


def test_the_experiment_opens_in_the_view_for_model_training() -> None:
    tags = layout.experiment_tags(DOCUMENT)
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "metrics.`aiq`" in tags[f"mlflow.sharedViewState.{layout.VIEW}"]
    assert "1,077 examples to train" in tags["mlflow.note.content"]


def test_what_is_fixed_for_a_study_is_named_as_in_its_file() -> None:
    params = study_params(DOCUMENT)
    assert params["model"] == "lenet_5"
    assert params["model.activation"] == "elu"
    assert (params["dataset"], params["dataset.validation"]) == ("digits", 360)
    assert (params["search.sampler"], params["search.pruner"], params["search.seed"]) == ("tpe", "asha", 0)
    assert params["training.epochs"] == DOCUMENT.space.training.epochs
    assert params["confirm.seeds"] == 4
    assert (params["objective"], params["objective.constraints"]) == ("maximize aiq", "accuracy >= 0.9")


def test_what_is_searched_or_may_be_extended_is_no_parameter_of_the_study() -> None:
    params = study_params(DOCUMENT)
    assert not DOCUMENT.space.parameters.keys() & params.keys()
    assert "search.trials" not in params
    assert all(isinstance(value, str | int | float | bool | list) for value in params.values())
