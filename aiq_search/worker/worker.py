"""The worker: trains one assignment after the other, one epoch a step, the first in parts."""

from __future__ import annotations

import errno
import math
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from aiq_search.datasets import Dataset
from aiq_search.errors import InputError
from aiq_search.models import Architecture, model_size
from aiq_search.places import StorageError, patiently, place_of
from aiq_search.statespace import StateCapture, evaluation_mode
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
from aiq_search.training.capture import CaptureOptions
from aiq_search.training.measures import INT8_ACCURACY, Measures
from aiq_search.user_code import CodePolicy
from aiq_search.worker.messages import RUNG_SAMPLES, Assignment, Report, Rung

if TYPE_CHECKING:
    from aiq_search.lowering.costs import CostMeter

__all__ = ["TrialWorker"]

# A checkpoint is written at most this often, and less often where writing one takes long.
_CHECKPOINT_SECONDS = 3.0
_CHECKPOINT_SHARE = 20


class TrialWorker:
    """Trains one assignment after the other in the same process.

    ``begin`` an assignment, then call ``step`` until a report is ``done``. A failed trial is such a report,
    not an exception: the process, with torch imported and the data in memory, lives on for the next trial.

    Args:
        dataset: The data of every assignment.
        threads: torch threads.
        gpu: GPUs of a trial, or a share of one. Without any, ``training.device: auto`` is the CPU.
        packages: Packages whose code a space may name, see ``CodePolicy``.
    """

    def __init__(
        self, dataset: Dataset, threads: int = 1, gpu: float = 0, *, packages: Sequence[str] = ()
    ) -> None:
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = True
        self._dataset = dataset
        self._gpu = gpu
        self._meter: CostMeter | None = None
        self._code = CodePolicy.for_running(packages)  # the working folder is that of this node

    def begin(self, assignment: Assignment) -> None:
        """Take an assignment; the first step builds its network."""
        self._assignment = assignment
        self._run: TrainingRun | None = None
        self._size: dict[str, float] = {}
        self._ceilings: dict[str, float] = {}
        self._rungs = assignment.rungs
        self._saved = self._started = time.monotonic()
        self._pause = _CHECKPOINT_SECONDS

    def step(self) -> Report:
        """Train until the next rung of the first epoch, or the end of an epoch.

        Returns:
            The numbers there; after a restart from a checkpoint, also those of all epochs before.

        Raises:
            OSError: The place where the study keeps its files is full or cannot be used, which is no fault of
                the trial.
        """
        begun = time.monotonic()
        try:
            report = self._advance()
        except DivergedError as error:
            report = self._failed(f"diverged: {error}")
        except InputError as error:
            report = self._failed(str(error))
        except StorageError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            report = self._failed(f"{type(error).__name__}: {error}", traceback.format_exc())
        except Exception as error:  # the user's model may raise anything
            line = (str(error).strip().splitlines() or [""])[0]
            reason = f"{type(error).__name__}: {line}"
            if _is_out_of_memory(error):
                reason = f"out of memory: {reason}; a smaller batch or network takes less"
            report = self._failed(reason, traceback.format_exc())
        if report.done:
            self._run = None  # its memory is the next trial's
        return replace(report, seconds=time.monotonic() - begun)

    def put_aside(self) -> None:
        """Write a checkpoint, from which another worker's first step continues the assignment.

        Raises:
            OSError: It could not be written.
        """
        run = self._run
        if run is not None and (run.epoch or run.under_way) and not run.finished:
            save_checkpoint(run, place_of(self._assignment.checkpoint))

    def _advance(self) -> Report:
        resumed = self._run is None and self._resume()
        run = self._run
        if run is None:
            raise RuntimeError("the run was not begun")
        share = (
            None if run.epoch else next((share for share in self._rungs if not run.has_passed(share)), None)
        )
        rung: Rung | None = None
        epochs: Sequence[EpochResult] = ()
        if share is not None:
            # After a restart the last rung comes again, without training: its report may have been lost.
            part = run.run_part(share, RUNG_SAMPLES)
            rung = Rung(share, part.samples, part.metrics())
            self._rungs = tuple(other for other in self._rungs if other > share)
        elif run.finished:  # interrupted between the last epoch and its report
            epochs = run.history
        else:
            result = run.run_epoch()
            epochs = run.history if resumed else [result]
        if run.finished:
            return self._complete(run, epochs)
        minutes = self._assignment.minutes
        if minutes is not None and time.monotonic() - self._started > 60 * minutes:
            return self._failed(f"took longer than search.trial_minutes = {minutes:g}", epochs=epochs)
        self._save_now_and_then(run)
        return self._report(run, epochs, rung=rung)

    def _resume(self) -> bool:
        """Build the network and load its checkpoint; whether there was one."""
        self._run = self._fresh_run()
        self._size = dict(vars(model_size(self._run.model, self._dataset.input_shape)))
        self._size |= self._costs(self._run)
        self._ceilings = _ceilings(self._run)
        checkpoint = place_of(self._assignment.checkpoint)
        if not patiently(checkpoint.is_file):
            return False
        try:
            load_checkpoint(self._run, checkpoint)
        except CheckpointError:
            # Starting over gives the same numbers; only time is lost.
            self._run = self._fresh_run()
            return False
        return True

    def _fresh_run(self) -> TrainingRun:
        assignment = self._assignment
        options = TrainingOptions.model_validate(assignment.training)
        if options.device == "auto" and not self._gpu:
            options = options.model_copy(update={"device": "cpu"})
        return TrainingRun(
            Architecture.from_document(assignment.architecture, self._code),
            self._dataset,
            options,
            seed=assignment.seed,
            beta=assignment.beta,
            measures=Measures(assignment.accuracy, assignment.measures),
            watch=assignment.watch,
            capture=CaptureOptions.model_validate(assignment.capture),
        )

    def _costs(self, run: TrainingRun) -> dict[str, float]:
        """What one sample costs, where the objective or a constraint names it."""
        if not self._assignment.costs:
            return {}
        # Imported here: most workers measure no costs.
        from aiq_search.lowering.costs import CostMeter
        from aiq_search.training.lowered import costs

        self._meter = self._meter or CostMeter()
        return costs(run, self._assignment.costs, self._meter)

    def _complete(self, run: TrainingRun, epochs: Sequence[EpochResult]) -> Report:
        if run.best is None:
            raise RuntimeError("a finished run has a chosen epoch")
        final = {}
        if self._assignment.test:
            measured = run.evaluate_best("test")
            final = {f"test/{name}": getattr(measured, name) for name in ("aiq", "accuracy", "efficiency")}
            final |= {f"test/{name}": value for name, value in measured.measures.items()}
        if self._assignment.int8:
            # Imported here: most workers never quantise.
            from aiq_search.training.lowered import int8_accuracies

            prefixes = {"validation": "", **({"test": "test/"} if self._assignment.test else {})}
            accuracies = int8_accuracies(run, prefixes)
            final |= {f"{prefixes[split]}{INT8_ACCURACY}": value for split, value in accuracies.items()}
        document = {
            "trial": self._assignment.key,
            "architecture": self._assignment.architecture,
            "seed": self._assignment.seed,
            "epoch": run.best.epoch,
            "capture": dict(self._assignment.capture),
            "validation": run.best.metrics(),
        }
        weights = place_of(self._assignment.weights)
        patiently(lambda: save_weights(weights, run.best_weights, document))
        return self._report(run, epochs, done=True, final=final)

    def _save_now_and_then(self, run: TrainingRun) -> None:
        begin = time.monotonic()
        if begin - self._saved < self._pause:
            return
        # Training can continue; the driver, which cannot write to a full disk either, reports it.
        with suppress(OSError):
            save_checkpoint(run, place_of(self._assignment.checkpoint))
        self._saved = time.monotonic()
        self._pause = max(_CHECKPOINT_SECONDS, _CHECKPOINT_SHARE * (self._saved - begin))

    def _report(self, run: TrainingRun, epochs: Sequence[EpochResult], **more: Any) -> Report:  # noqa: ANN401
        measured = run.best.validation.layers if run.best else ()
        ceilings = {f"ceiling/{name}": self._ceilings[name] for name in measured if name in self._ceilings}
        return Report(
            epochs=tuple((result.epoch, result.metrics()) for result in epochs),
            chosen=run.best.epoch if run.best else None,
            size={**self._size, **ceilings},
            engine=run.engine.name,
            engine_reason=run.engine.reason,
            **more,
        )

    def _failed(self, reason: str, trace: str | None = None, epochs: Sequence[EpochResult] = ()) -> Report:
        reported = tuple((result.epoch, result.metrics()) for result in epochs)
        return Report(epochs=reported, size=self._size, done=True, reason=reason, traceback=trace)


def _ceilings(run: TrainingRun) -> dict[str, float]:
    """The highest efficiency that each layer can show on the validation split, where that is below 1."""
    sample = torch.zeros(1, *run.dataset.input_shape, device=run.device)
    keywords = run.capture.fitting(run.model).keywords()
    with torch.inference_mode(), evaluation_mode(run.model), StateCapture(run.model, **keywords) as states:
        run.model(sample)
    ceilings = {  # N observations carry log2(N) bits at most
        name: math.log2(len(run.dataset.validation) * seen.observations) / seen.neurons
        for name, seen in states.compute().items()
    }
    return {name: ceiling for name, ceiling in ceilings.items() if ceiling < 1}


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: Python's, the GPU's, or torch's on the CPU, which has no own class."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
