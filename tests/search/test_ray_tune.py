"""Studies on Ray: what a worker has in its hands, and what we use of Ray that is not documented."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from aiq_search.datasets import DatasetOptions, load_dataset
from aiq_search.search.driver import StudyDriver
from aiq_search.search.runners import ray_internals
from aiq_search.search.runners.ray_tune import RayRunner
from aiq_search.study import Phase
from tests.search.faulty_worker import SightWorker
from tests.search.simulation import new_study


@pytest.mark.slow
def test_a_worker_that_is_given_no_gpu_sees_none(ray, tmp_path):
    in_sight = ray.remote(num_cpus=0)(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert ray.get(in_sight.remote()) == "0"  # Ray leaves it in sight
    study = new_study(tmp_path, search={"trials": 1})
    driver = StudyDriver(study)
    driver.begin()
    RayRunner(SightWorker, ray.put("the data")).run(driver)
    assert json.loads(study.record(Phase.EXPLORE, 0).reason) == ["", "the data", 1, 0]


def look(dataset):
    """What a worker has in its hands: whether numpy or torch copied it, and its checksum."""
    import torch

    from aiq_search.training.evaluation import TensorSplit

    inputs = dataset.train.inputs
    tensors = TensorSplit.of(dataset.train, dataset.normalization, torch.device("cpu"))
    return {
        "numpy has a copy": inputs.flags.owndata,
        "numpy may write": inputs.flags.writeable,
        "torch has a copy": tensors.inputs.data_ptr() != inputs.ctypes.data,
        "digest": dataset.digest_now(),
    }


@pytest.mark.slow
def test_workers_read_the_data_where_ray_holds_them(ray):
    dataset = load_dataset(DatasetOptions(name="digits", validation=360, test=360))
    seen = ray.get(ray.remote(num_cpus=0)(look).remote(ray.put(dataset)))
    assert seen == {
        "numpy has a copy": False,
        "numpy may write": False,
        "torch has a copy": False,
        "digest": dataset.digest,
    }


# ---- names -------------------------------------------------------------------------------------------

TRIAL = ("actor_of", "is_saving", "error_file")
CONTROLLER = ("end_trials", "release_actors")


@pytest.fixture(scope="module")
def answers(ray, tmp_path_factory):
    """What each function of ``ray_internals`` answers within a Tuner, or the error that it raises."""
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler

    answers = {}

    def ask(name, *arguments):
        try:
            answers[name] = getattr(ray_internals, name)(*arguments)
        except Exception as error:
            answers[name] = error

    class Asking(FIFOScheduler):
        def on_trial_result(self, tune_controller, trial, result):
            for name in TRIAL:
                ask(name, trial)
            ask("actor_id", ray_internals.actor_of(trial))
            answers["controller"] = tune_controller
            return FIFOScheduler.STOP

    trainable = tune.with_resources(lambda config: tune.report({"a": 1}), {"cpu": 1})
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(scheduler=Asking()),
        run_config=tune.RunConfig(storage_path=str(tmp_path_factory.mktemp("tune")), verbose=0),
    ).fit()
    for name in CONTROLLER:
        ask(name, answers["controller"])
    return answers


def test_ray_has_what_its_light_start_leaves_out():
    from ray._private.node import Node
    from ray.tune.execution import class_cache

    from aiq_search.cluster.ray_internals import _UNUSED, WORKER_ENVIRONMENT
    from aiq_search.search.runners.ray_tune import TUNE_ENVIRONMENT

    assert all(hasattr(Node, name) for name in _UNUSED)
    assert WORKER_ENVIRONMENT.items() <= {**class_cache.DEFAULT_ENV_VARS, **TUNE_ENVIRONMENT}.items()
    assert set(class_cache.DEFAULT_ENV_VARS) <= set(WORKER_ENVIRONMENT)
    with ray_internals.waiting_workers():
        assert not class_cache.DEFAULT_ENV_VARS
        assert not class_cache.ENV_VARS_TO_PROPAGATE


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRIAL, *CONTROLLER, "actor_id"])
def test_ray_has_what_we_use_of_it(answers, name):
    assert not isinstance(answers[name], Exception), answers[name]


@pytest.mark.slow
def test_what_ray_answers_is_of_the_expected_kind(answers):
    assert hasattr(answers["actor_of"], "_actor_id")
    assert int(answers["actor_id"], 16)
    assert answers["is_saving"] is False
    assert answers["error_file"] is None or isinstance(answers["error_file"], str)


@pytest.mark.parametrize("name", [*TRIAL, *CONTROLLER, "actor_id"])
def test_a_name_that_ray_does_not_have_any_more_is_a_sentence(name):
    with pytest.raises(
        RuntimeError, match=r"has no SimpleNamespace\.\w+.*which aiq_search uses: install"
    ) as raised:
        getattr(ray_internals, name)(SimpleNamespace())
    assert "\n" not in str(raised.value)
