"""``aiq measure``: the state-space report of a network over a named data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from aiq_search.datasets import Dataset, DatasetOptions, Normalization, Split, load_dataset
from aiq_search.errors import InputError
from aiq_search.export import Bundle, load_bundle
from aiq_search.export.device.writing import DeviceFiles
from aiq_search.export.documents import DeviceDocument, PreprocessingDocument
from aiq_search.export.measurement import one_thread
from aiq_search.export.onnx_file import checked_onnx
from aiq_search.export.running import standalone_runner
from aiq_search.lowering.onnx_extra import onnx_available
from aiq_search.lowering.quantization import NAME as INT8
from aiq_search.models import build_model, model_size
from aiq_search.statespace import EfficiencyReport, measure
from aiq_search.training.capture import CaptureOptions
from aiq_search.user_code import CodePolicy, describe_error, is_reference

__all__ = ["Measurement", "measure_network"]

_BATCH = 500


@dataclass(frozen=True)
class Measurement:
    """A report, and what it was made from.

    Attributes:
        model: The network, as the user named it.
        weights: Where its weights come from.
        data: Name of the data set.
        split: Name of the split.
        samples: Size of the split.
        parameters: All trainable numbers of the network.
        macs: Multiply-accumulates of one sample.
        capture: Which states were measured.
        device: What it asks of a device; None for a network without a device format.
        report: The report.
    """

    model: str
    weights: str
    data: str
    split: str
    samples: int
    parameters: int
    macs: int
    capture: str
    device: DeviceDocument | None
    report: EfficiencyReport

    def document(self) -> dict[str, Any]:
        """The measurement as a JSON document."""
        own = self.__dataclass_fields__.keys() - {"report", "device"}
        context = {name: getattr(self, name) for name in self.__dataclass_fields__ if name in own}
        device = self.device.model_dump(mode="json", exclude={"int8"}) if self.device else None
        return {**context, "device": device, **self.report.to_dict()}


def measure_network(
    model: str,
    *,
    data: str | None = None,
    split: str = "test",
    weights: Path | None = None,
    arguments: Sequence[str] = (),
    data_dir: Path | None = None,
    beta: float = 2.0,
    allow_code: Sequence[str] = (),
    **capture: Any,  # noqa: ANN401
) -> Measurement:
    """Measure a bundle, or a network that a function builds.

    Args:
        model: Directory of a bundle, name of a model of this package, or ``package.module:function``.
        data: A data set's name, path of an ``.npz`` or ``package.module:function``; by default what a bundle
            was measured on.
        split: train, validation or test.
        weights: A safetensors file for a network that is not a bundle; without it the weights are random
            (seed 0).
        arguments: ``name=value`` for the function that builds the network; values are JSON, or else text.
        data_dir: Folder of the data files.
        beta: Weight of the accuracy in aIQ.
        allow_code: Packages that may be imported besides modules of the working folder.
        capture: Fields of `CaptureOptions`; of a bundle, the others are as it was measured.

    Raises:
        InputError: There is no such network or data, or they do not fit each other.
    """
    if split not in ("train", "validation", "test"):
        raise InputError(f"--split must be train, validation or test, but is {split!r}.")
    code = CodePolicy.for_running(allow_code)
    if Path(model).is_dir():
        if weights is not None or arguments:
            raise InputError(
                f"{model} is a bundle, which brings its weights and arguments: drop --weights and --set."
            )
        bundle = load_bundle(model, code)
        network, dataset = bundle.model, _data_of(bundle, data, data_dir, code)
        preprocessing, files = bundle.preprocessing, bundle.files
        source, usual = "bundle", bundle.metrics.conventions.capture
    else:
        network, dataset = _from_function(model, data, data_dir, _parsed(arguments), code)
        preprocessing, files = PreprocessingDocument.of(dataset), {}
        source, usual = "random, seed 0" if weights is None else str(weights), CaptureOptions()
        if weights is not None:
            _load_weights(network, weights)
    options = _capture({**usual.model_dump(), **capture})
    samples = dataset.split(split)
    with _explained(network, samples, dataset.classes):
        report = measure(
            network, _batches(samples, preprocessing.normalization), beta=beta, **options.keywords()
        )
    size = model_size(network, preprocessing.input_shape)
    device = _device(network, preprocessing, dataset, files)
    return Measurement(
        model=model,
        weights=source,
        data=dataset.name,
        split=split,
        samples=len(samples),
        parameters=size.parameters,
        macs=size.macs,
        capture=str(options),
        device=device,
        report=report,
    )


def _capture(fields: Mapping[str, Any]) -> CaptureOptions:
    try:
        return CaptureOptions.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{problem['loc'][0]}: {problem['msg']}, but got {problem['input']!r}.") from None


def _data_of(bundle: Bundle, data: str | None, data_dir: Path | None, code: CodePolicy) -> Dataset:
    options = bundle.dataset if data is None else _renamed(bundle.dataset, data)
    preprocessing = bundle.preprocessing
    return load_dataset(options, data_dir, code, preprocessing.table).with_classes(preprocessing.classes)


def _device(
    network: nn.Module, preprocessing: PreprocessingDocument, dataset: Dataset, files: Mapping[str, bytes]
) -> DeviceDocument | None:
    """What the network asks of a device: sizes, and the time of what this package builds itself.

    A stranger's graphs are not run for it: that takes bounds, and the card has their times.
    """
    device = DeviceFiles(network, preprocessing, dataset, beta=1.0)
    with suppress(InputError):  # no device format, or more weights than one has
        device.c()
        if INT8 in files and onnx_available():
            device.int8_of(checked_onnx(files[INT8], INT8))
    with one_thread():
        return device.document({"safetensors": standalone_runner(network, preprocessing)})


def _renamed(options: DatasetOptions, name: str) -> DatasetOptions:
    """The options of other data, which are read as those of a bundle where they are of the same kind."""
    other = DatasetOptions(name=name)
    return options.model_copy(update={"name": name}) if other.kind == options.kind else other


def _from_function(
    model: str, data: str | None, data_dir: Path | None, arguments: Mapping[str, Any], code: CodePolicy
) -> tuple[nn.Module, Dataset]:
    if model.endswith((".pt2", ".pt", ".pth", ".onnx", ".safetensors")):
        raise InputError(
            f"{model}: a file of weights or a compiled graph has no modules whose states could be read. Give "
            "a bundle (a directory that `aiq export` wrote), or package.module:function that builds the "
            "network, with its weights as --weights FILE.safetensors."
        )
    if data is None:
        raise InputError("Choose a data set with --data; only bundles include one.")
    dataset = load_dataset(DatasetOptions(name=data), data_dir, code)
    torch.manual_seed(0)
    try:
        return build_model(model, arguments, dataset.input_shape, len(dataset.classes), code), dataset
    except InputError:
        raise
    except Exception as error:
        if not is_reference(model):
            raise
        raise InputError(f"{model} raised {describe_error(error)}.") from error


def _parsed(arguments: Sequence[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--set takes name=value, but got {argument!r}.")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed


def _load_weights(network: nn.Module, path: Path) -> None:
    """Load a safetensors file, a format that holds numbers and nothing that could run."""
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path}: weights must be a .safetensors file; other formats can run code when loaded. Convert "
            "with safetensors.torch.save_model(model, file) where you trust them."
        )
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    except RuntimeError as error:
        raise InputError(f"{path} does not hold the weights of this network: {error}") from error


def _batches(split: Split, normalization: Normalization) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    shape = (-1, *[1] * (split.inputs.ndim - 2))
    scale, shift = (
        torch.tensor(numbers, dtype=torch.float32).reshape(shape)
        for numbers in (normalization.scale, normalization.shift)
    )
    for start in range(0, len(split), _BATCH):
        part = slice(start, start + _BATCH)
        inputs = torch.tensor(split.inputs[part]).float()
        yield inputs * scale + shift, torch.tensor(split.labels[part])


@contextmanager
def _explained(network: nn.Module, split: Split, classes: Sequence[str]) -> Iterator[None]:
    """Distinguish a network that does not fit the data from a bug, by running it on one sample."""
    sample = torch.zeros(1, *split.inputs.shape[1:])
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            outputs = network(sample)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"The network does not take this data, whose samples have shape {tuple(sample.shape[1:])}: "
            f"{error}"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if isinstance(outputs, torch.Tensor) and outputs.ndim == 2 and outputs.shape[1] != len(classes):
        raise InputError(
            f"The network has {outputs.shape[1]:,} outputs, but the data have {len(classes):,} classes. Each "
            "different label is a class unless the data name their classes: add all names, in the order of "
            "the outputs, as the array classes."
        )
    yield
