"""Running a graph of unknown origin in a process of its own, with bounds on what it may take."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiq_search.arrays import ArrayFile
from aiq_search.errors import AiqError, InputError
from aiq_search.export import bounded_child
from aiq_search.export.errors import BundleError

__all__ = ["Bounds", "run_bounded"]

_FILES = {"pt2": "model.pt2", "onnx": "model.onnx", "int8": "model_int8.onnx"}
_OUTPUTS = ("logits", "probabilities")
# A process that neither computes nor ends, in seconds of the clock: starting takes long on a busy machine.
_PATIENCE = 180.0
_OVERHEAD = 2**20  # bytes of an npz besides its arrays


@dataclass(frozen=True)
class Bounds:
    """What a graph may take.

    Attributes:
        batch: Samples at once.
        memory: Bytes, besides what its library takes.
        seconds: Processor time, besides loading.
        classes: Numbers that it may give for a sample.
    """

    batch: int
    memory: int
    seconds: int
    classes: int


def run_bounded(
    name: str, graph: bytes, samples: Sequence[NDArray[Any]], bounds: Bounds
) -> list[Mapping[str, NDArray[np.float32]]]:
    """Run a graph that was checked on some arrays of samples.

    Args:
        name: Its format: pt2, onnx or int8.
        graph: The bytes of its file.
        samples: Raw inputs.
        bounds: What it may take.

    Returns:
        Logits and probabilities, (N, classes) each, of every array.

    Raises:
        BundleError: It fails, takes more than the bounds, or its outputs have another shape.
    """
    rows = sum(map(len, samples))
    output = 2 * 4 * rows * bounds.classes + _OVERHEAD
    numbered: dict[str, Any] = {str(number): array for number, array in enumerate(samples)}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / part for part in ("graph", "inputs.npz", "outputs.npz")]
        try:
            paths[0].write_bytes(graph)
            np.savez(paths[1], **numbered)
        except OSError as error:
            reason = error.strerror
            raise AiqError(f"{folder}: cannot be written ({reason}); set TMPDIR to another folder.") from None
        # -P: the folder of the script is not one to import from.
        command = [sys.executable, "-P", bounded_child.__file__, name, *map(str, paths)]
        limits = (bounds.batch, bounds.memory, bounds.seconds, output)
        try:
            ended = subprocess.run(  # noqa: S603 - our own script
                [*command, *map(str, limits)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_PATIENCE + 10 * bounds.seconds,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _stopped(name, "it does not end") from None
        if ended.returncode:
            raise _stopped(name, _reason(ended.returncode, ended.stdout, bounds))
        return _outputs(name, paths[2], samples, bounds.classes)


def _reason(code: int, printed: bytes, bounds: Bounds) -> str:
    if code > 0:
        return printed.decode(errors="replace").strip() or f"exit code {code}"
    if -code == signal.SIGXCPU:
        return f"it takes more than {bounds.seconds} seconds, far longer than the network itself"
    return f"it was ended by {signal.Signals(-code).name}"


def _outputs(
    name: str, path: Path, samples: Sequence[NDArray[Any]], classes: int
) -> list[Mapping[str, NDArray[np.float32]]]:
    try:
        with ArrayFile(path) as file:
            arrays = file.read(file.names)
        results: list[Mapping[str, NDArray[np.float32]]] = [
            {output: arrays[f"{number}.{output}"] for output in _OUTPUTS} for number in range(len(samples))
        ]
    except (InputError, KeyError):
        raise _stopped(name, "its outputs are not plain arrays") from None
    for result, array in zip(results, samples, strict=True):
        for output in result.values():
            if output.dtype != np.float32 or output.shape != (len(array), classes):
                raise BundleError(
                    f"{_FILES[name]}: refused: it must give {classes} float32 numbers for each sample, not "
                    f"{output.dtype} {output.shape} for {len(array):,}."
                )
    return results


def _stopped(name: str, reason: str) -> BundleError:
    return BundleError(f"{_FILES[name]}: cannot be run ({reason}).")
