"""The worker's side: a trial as a Ray Tune Trainable, one epoch a step."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ray import tune

from aiq_search.datasets import Dataset
from aiq_search.errors import InputError
from aiq_search.files import StorageError, patiently, place_of
from aiq_search.models import Architecture, model_size
from aiq_search.training import (
    CheckpointError,
    DivergedError,
    EpochResult,
    TrainingOptions,
    TrainingRun,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from aiq_search.user_code import CodePolicy
from aiq_search.worker.messages import Assignment, Report

if TYPE_CHECKING:
    import ray

__all__ = ["TrainingTrainable", "training_trainable"]

# A checkpoint is written at most this often, and less often where writing one takes long.
_CHECKPOINT_SECONDS = 3.0
_CHECKPOINT_SHARE = 20


class TrainingTrainable(tune.Trainable):  # type: ignore[misc]
    """Trains one assignment after the other in the same process.

    A failure is a report, not an exception: the actor, with torch imported and the data mapped, lives
    on for the next trial.
    """

    def setup(
        self,
        config: dict[str, Any],
        dataset: Dataset,
        threads: int = 1,
        gpu: float = 0,
        packages: Sequence[str] = (),
    ) -> None:
        """Get ready for a first assignment."""
        if not gpu:  # Ray leaves every GPU in sight of these, and all trials would crowd onto the first
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        import torch

        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = True
        self._dataset = dataset
        self._code = CodePolicy.for_running(packages)  # the working folder is that of this node
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Get ready for the next assignment; the network is built in the first step."""
        self._assignment = Assignment.from_json(new_config["assignment"])
        self._run: TrainingRun | None = None
        self._size: dict[str, int] = {}
        self._saved = self._started = time.monotonic()
        self._pause = _CHECKPOINT_SECONDS
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it."""
        try:
            report = self._advance()
        except DivergedError as error:
            report = self._failed(f"diverged: {error}")
        except InputError as error:
            report = self._failed(str(error))
        except StorageError:
            raise  # no fault of the trial's: the driver stops and keeps it
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            report = self._failed(f"{type(error).__name__}: {error}", traceback.format_exc())
        except Exception as error:  # the user's model may raise anything
            line = (str(error).strip().splitlines() or [""])[0]
            said = f"{type(error).__name__}: {line}"
            if _is_out_of_memory(error):
                said = f"out of memory: {said}; a smaller batch or network takes less"
            report = self._failed(said, traceback.format_exc())
        if report.done:
            self._run = None  # its memory is the next trial's
        return {"report": report.to_json(), "done": report.done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Put the trial aside in the study's own folder; Tune's folder stays empty."""
        if self._run is not None and self._run.epoch and not self._run.finished:
            save_checkpoint(self._run, place_of(self._assignment.checkpoint))

    def load_checkpoint(self, checkpoint: Any) -> None:  # noqa: ANN401
        """Nothing: the first step looks into the study's own folder."""

    def _advance(self) -> Report:
        resumed = self._run is None and self._begin()
        run = self._run
        if run is None:
            raise RuntimeError("the run was not begun")
        if run.finished:  # interrupted between the last epoch and its report
            told = run.history
        else:
            result = run.run_epoch()
            told = run.history if resumed else [result]
        if run.finished:
            return self._complete(run, told)
        minutes = self._assignment.minutes
        if minutes is not None and time.monotonic() - self._started > 60 * minutes:
            return self._failed(f"took longer than search.trial_minutes = {minutes:g}", epochs=told)
        self._checkpoint_now_and_then(run)
        return self._report(run, told)

    def _begin(self) -> bool:
        """Build the network; take up its checkpoint if there is one, and say so."""
        assignment = self._assignment
        architecture = Architecture.from_document(assignment.architecture, self._code)
        options = TrainingOptions.model_validate(assignment.training)

        def fresh() -> TrainingRun:
            return TrainingRun(
                architecture, self._dataset, options, seed=assignment.seed, beta=assignment.beta
            )

        self._run = fresh()
        size = model_size(self._run.model, self._dataset.input_shape)
        self._size = dict(vars(size))
        checkpoint = place_of(assignment.checkpoint)
        if not patiently(checkpoint.is_file):
            return False
        try:
            load_checkpoint(self._run, checkpoint)
        except CheckpointError:
            # Starting over gives the same numbers; only time is lost.
            self._run = fresh()
            return False
        return True

    def _complete(self, run: TrainingRun, told: list[EpochResult]) -> Report:
        if run.best is None:
            raise RuntimeError("a finished run has a chosen epoch")
        test = {}
        if self._assignment.test:
            measured = run.evaluate_best("test")
            test = {f"test/{name}": getattr(measured, name) for name in ("aiq", "accuracy", "efficiency")}
        document = {
            "trial": self._assignment.key,
            "architecture": self._assignment.architecture,
            "seed": self._assignment.seed,
            "epoch": run.best.epoch,
            "validation": run.best.metrics(),
        }
        weights = place_of(self._assignment.weights)
        patiently(lambda: save_weights(weights, run.best_weights, document))
        return self._report(run, told, done=True, test=test)

    def _checkpoint_now_and_then(self, run: TrainingRun) -> None:
        begun = time.monotonic()
        if begun - self._saved < self._pause:
            return
        # The network is well; a full disk is the driver's to report, who cannot write either.
        with suppress(OSError):
            save_checkpoint(run, place_of(self._assignment.checkpoint))
        self._saved = time.monotonic()
        self._pause = max(_CHECKPOINT_SECONDS, _CHECKPOINT_SHARE * (self._saved - begun))

    def _report(self, run: TrainingRun, told: list[EpochResult], **more: Any) -> Report:  # noqa: ANN401
        return Report(
            epochs=tuple((result.epoch, result.metrics()) for result in told),
            chosen=run.best.epoch if run.best else None,
            size=self._size,
            **more,
        )

    def _failed(
        self, reason: str, trace: str | None = None, epochs: list[EpochResult] | None = None
    ) -> Report:
        told = tuple((result.epoch, result.metrics()) for result in epochs or ())
        return Report(epochs=told, size=self._size, done=True, reason=reason, traceback=trace)


def training_trainable(
    dataset: ray.ObjectRef[Dataset], threads: int, gpu: float, packages: Sequence[str] = ()
) -> type[tune.Trainable]:
    """What trains; Ray must be connected.

    Args:
        dataset: Reference to the ``Dataset`` in Ray's object store, which the trials of a node share.
        threads: torch threads of a trial.
        gpu: GPUs of a trial; a worker that is given none sees none.
        packages: Packages whose code a space may name, see ``CodePolicy``.
    """
    trainable: type[tune.Trainable] = tune.with_parameters(
        TrainingTrainable, dataset=dataset, threads=threads, gpu=gpu, packages=tuple(packages)
    )
    return trainable


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: Python's, the GPU's, or torch's on the CPU, which has no own class."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
