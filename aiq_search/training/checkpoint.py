"""A training run put aside, and taken up again as if nothing had happened.

The format is safetensors: tensors by dotted names, and one JSON document in its header. Nothing in
it can run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aiq_search.errors import InputError
from aiq_search.places import Place, place_of
from aiq_search.training.evaluation import Evaluation
from aiq_search.training.run import EpochResult, TrainingRun

__all__ = ["CheckpointError", "load_checkpoint", "load_weights", "save_checkpoint", "save_weights"]


class CheckpointError(InputError):
    """A checkpoint is damaged or belongs to another network."""


def save_checkpoint(run: TrainingRun, path: Path | Place) -> None:
    """Write all that ``load_checkpoint`` needs; the file is whole or not there."""
    tensors = {
        **{f"model.{name}": tensor for name, tensor in run.model.state_dict().items()},
        **{f"best.{name}": tensor for name, tensor in run.best_weights.items()},
        **{f"random.{name}": tensor for name, tensor in run.random_state().items()},
    }
    for index, state in run.engine.optimizer_state().items():
        tensors.update({f"optimizer.{index}.{name}": tensor for name, tensor in state.items()})
    document = {
        "history": [asdict(result) for result in run.history],
        "best": None if run.best is None else run.best.epoch,
    }
    _write(path, tensors, document)


def load_checkpoint(run: TrainingRun, path: Path | Place) -> None:
    """Bring a fresh run of the same network to where the checkpoint was written.

    Args:
        run: A run that has not begun.
        path: A file of ``save_checkpoint``.

    Raises:
        CheckpointError: The file is damaged or another network's.
    """
    tensors, document = _read(path)
    try:
        run.model.load_state_dict(_part(tensors, "model."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _part(tensors, "optimizer.").items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
        run.engine.load_optimizer_state(state)
        run.best_weights = {n: t.to(run.device) for n, t in _part(tensors, "best.").items()}
        run.history = [
            EpochResult(
                result["epoch"],
                result["train_loss"],
                Evaluation(**result["validation"]),
                {name: Evaluation(**measured) for name, measured in result["watched"].items()},
            )
            for result in document["history"]
        ]
        if (best := document["best"]) is not None:
            run.best = run.history[best - 1]
        run.load_random_state(_part(tensors, "random."))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this network ({error}).") from None


def save_weights(path: Path | Place, weights: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write a network's weights with a JSON document about them; the file is whole or not there."""
    _write(path, weights, document)


def load_weights(path: Path | Place) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of ``save_weights``: the weights and the document.

    Raises:
        CheckpointError: The file is damaged.
    """
    return _read(path)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _write(path: Path | Place, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    place_of(path).write_whole(save(plain, metadata={"document": json.dumps(document)}))


def _read(path: Path | Place) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return load(data), json.loads(header["__metadata__"]["document"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}).") from None
