"""The JSON documents of a bundle: what they hold, and the checks that each passes before it is used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from aiq_search.arrays import MOST_DIMENSIONS
from aiq_search.datasets import Dataset, DatasetOptions, Normalization, TableEncoding
from aiq_search.datasets.labels import LONGEST_NAME
from aiq_search.export.errors import BundleError
from aiq_search.models import Architecture
from aiq_search.training.capture import CaptureField
from aiq_search.training.measures import AccuracyName
from aiq_search.user_code import CodePolicy

__all__ = [
    "ArchitectureDocument",
    "BuildDocument",
    "Conventions",
    "DatasetDocument",
    "DeviceDocument",
    "Int8Document",
    "MetricsDocument",
    "PreprocessingDocument",
    "SeedMetrics",
    "SizeDocument",
    "SplitMetrics",
    "SpreadDocument",
    "parse_document",
]

# No network of this package comes near: what is above is a mistake, or made to exhaust memory or patience.
LARGEST_NUMBER = 1_000_000
LARGEST_SAMPLE = 2**28
MOST_ARGUMENTS = 1000
_FLOAT32 = float(np.finfo(np.float32).max)

Length = Annotated[int, Field(ge=1, le=LARGEST_NUMBER, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Float32 = Annotated[float, Field(ge=-_FLOAT32, le=_FLOAT32)]
Shape = Annotated[tuple[Length, ...], Field(min_length=1, max_length=MOST_DIMENSIONS - 1)]
ClassName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


class Document(BaseModel):
    """Base of the documents: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ArchitectureDocument(Document):
    """``architecture.json``: enough to build the network again.

    Attributes:
        name: A model of this package, or ``package.module:function``.
        arguments: What the function is called with.
        input_shape: Shape of one sample, such as (C, H, W) or (F,).
        classes: Number of outputs.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(max_length=200)]
    arguments: dict[str, JsonValue]
    input_shape: Shape
    classes: Length

    @field_validator("arguments")
    @classmethod
    def _nothing_huge(cls, arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
        scalars = list(_scalars(arguments))
        if len(scalars) > MOST_ARGUMENTS:
            raise ValueError(f"there may be at most {MOST_ARGUMENTS:,} names and values")
        if any(isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER for value in scalars):
            raise ValueError(f"a number must be at most {LARGEST_NUMBER:,}")
        return arguments

    @classmethod
    def of(cls, architecture: Architecture) -> ArchitectureDocument:
        """The document of an architecture."""
        return cls.model_validate(architecture.document())

    def architecture(self, code: CodePolicy) -> Architecture:
        """What the document describes.

        Args:
            code: Which code it may name.
        """
        return Architecture(self.name, dict(self.arguments), self.input_shape, self.classes, code)


def _scalars(value: JsonValue) -> Iterator[JsonValue]:
    """Every text, number and key of a JSON document."""
    if isinstance(value, dict | list):
        if isinstance(value, dict):
            yield from value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _scalars(part)
    else:
        yield value


class PreprocessingDocument(Document):
    """``preprocessing.json``: what the network is given, and what its outputs mean.

    The network's input is ``x * scale + shift``, with one number a channel or feature; the pt2 and the
    ONNX do this themselves.

    Attributes:
        input_dtype: uint8 or float32.
        input_shape: Shape of one sample.
        scale: See above.
        shift: See above.
        classes: Name of each output.
        training_range: Smallest and largest raw input of the training split: what the network has seen.
        resize: Whether a picture of another size is scaled to this one, as those of the training were.
        table: How rows of a table become raw inputs; null for other data.
    """

    schema_version: Literal[1] = 1
    input_dtype: Literal["uint8", "float32"]
    input_shape: Shape
    scale: tuple[Float32, ...]
    shift: tuple[Float32, ...]
    classes: tuple[ClassName, ...]
    training_range: tuple[Finite, Finite]
    resize: bool = False
    table: TableEncoding | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> PreprocessingDocument:
        if not len(self.scale) == len(self.shift) == self.input_shape[0]:
            raise ValueError(
                f"scale and shift must have {self.input_shape[0]} numbers, one for each channel or feature, "
                f"but have {len(self.scale)} and {len(self.shift)}"
            )
        if math.prod(self.input_shape) > LARGEST_SAMPLE:
            raise ValueError(f"a sample of shape {self.input_shape} is larger than any that is supported")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have the same name")
        if self.table is not None and (self.table.width,) != self.input_shape:
            raise ValueError(
                f"the table's columns give {self.table.width:,} features, but input_shape is "
                f"{self.input_shape}"
            )
        return self

    @classmethod
    def of(cls, dataset: Dataset, *, resize: bool = False) -> PreprocessingDocument:
        """What a network is given that was trained on a data set, whose pictures were resized or not."""
        inputs = dataset.train.inputs
        return cls.model_validate(
            {
                "input_dtype": str(inputs.dtype),
                "input_shape": dataset.input_shape,
                "scale": dataset.normalization.scale,
                "shift": dataset.normalization.shift,
                "classes": dataset.classes,
                "training_range": (float(inputs.min()), float(inputs.max())),
                "resize": resize,
                "table": dataset.encoding,
            }
        )

    @property
    def normalization(self) -> Normalization:
        """The affine map of the inputs."""
        return Normalization(self.scale, self.shift)


class SplitMetrics(Document):
    """The exported network measured on one split; see ``training.Evaluation``."""

    loss: Finite
    accuracy: Fraction
    efficiency: Fraction
    aiq: Fraction
    samples: Annotated[int, Field(ge=1)]
    layers: dict[str, Fraction]
    measures: dict[Literal["auroc", "balanced_accuracy", "macro_f1", "top_5"], Fraction] = Field(
        default_factory=dict
    )


class SpreadDocument(Document):
    """Mean and standard deviation over the seeds of a configuration."""

    mean: Finite
    sd: Finite | None
    n: Annotated[int, Field(ge=1)]


class ReferenceDocument(Document):
    """The most accurate network of the search, trained on the seeds that report the configuration's numbers.

    Attributes:
        parameters: Its configuration.
        size: Its trainable numbers; the exported network has so many times fewer.
        test: Its numbers on the test split; the configuration loses ``points_lost`` against it.
    """

    parameters: dict[str, JsonValue]
    size: Annotated[int, Field(ge=1)]
    times_fewer_parameters: Finite
    test: dict[str, SpreadDocument]
    points_lost: SpreadDocument


class SeedMetrics(Document):
    """What the search measured for one seed of the configuration."""

    name: str
    seed: int
    exported: bool
    collapsed: bool = False
    metrics: dict[str, Finite]


class SizeDocument(Document):
    """Size of the network; see ``models.ModelSize``."""

    parameters: int
    parameters_weights: int
    macs: int


class BuildDocument(Document):
    """What a C file takes on a microcontroller, in bytes.

    Attributes:
        flash: Code and constants, with what is used of math.h.
        ram: Static variables: the buffer, one raw input, and the outputs.
        compiler: Name and version.
    """

    flash: Annotated[int, Field(ge=0)]
    ram: Annotated[int, Field(ge=0)]
    compiler: Annotated[str, Field(max_length=200)]


class Int8Document(Document):
    """The network in eight bits, on the test split.

    Attributes:
        accuracy: Of ``model_int8.onnx``.
        drop: The float32 network's accuracy less this.
        agreement: Share of the samples whose class is that of the float32 network.
        aiq: Of the network with the weights that eight bits leave of it.
        efficiency: Likewise.
        calibrated: Training samples that the ranges of activations were taken from.
    """

    accuracy: Fraction
    drop: Annotated[float, Field(ge=-1, le=1)]
    agreement: Fraction
    aiq: Fraction
    efficiency: Fraction
    calibrated: Annotated[int, Field(ge=1)]


class DeviceDocument(Document):
    """What the network asks of a device.

    Attributes:
        weights: Bytes of the weights by format (float32, int8), batch norms folded.
        activations: Largest bytes that activations take at once, by format.
        latency: Median microseconds of a sample by itself on the machine of ``environment``, by format.
        builds: The C files on a Cortex-M4, by format; none where no cross compiler was.
        int8: The network in eight bits, if it was exported so.
    """

    weights: dict[Literal["float32", "int8"], Annotated[int, Field(ge=1)]]
    activations: dict[Literal["float32", "int8"], Annotated[int, Field(ge=0)]]
    latency: dict[Annotated[str, Field(max_length=20)], Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    builds: dict[Literal["float32", "int8"], BuildDocument] = {}
    int8: Int8Document | None = None


class Conventions(Document):
    """What the numbers mean.

    Attributes:
        beta: Weight of accuracy in aIQ.
        accuracy: Which number is the accuracy in aIQ.
        capture: Which layers' states are measured, and where.
        parameters: How ``parameters`` and ``parameters_weights`` are counted.
        state: What a state is.
    """

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    accuracy: AccuracyName = "accuracy"
    capture: CaptureField
    parameters: str = (
        "parameters: every trainable number; parameters_weights: weights of convolutions and linear layers"
    )
    state: str = (
        "a neuron is on where its output is above 0; one state a sample (linear) or position (convolution); "
        "efficiency of a layer: Shannon entropy of its states in bits over its neurons; of the network: "
        "geometric mean over its hidden layers; aIQ: (accuracy^beta * efficiency)^(1 / (beta + 1))"
    )


class DatasetDocument(Document):
    """Which data the numbers were measured on.

    Attributes:
        options: How to load them again.
        digest: SHA-256 over all splits.
        train: Samples learned from.
        validation: Samples selected on.
        test: Samples held out.
        warnings: What to know about the data before trusting a number.
    """

    options: DatasetOptions
    digest: str
    train: int
    validation: int
    test: int
    warnings: tuple[str, ...] = ()


class MetricsDocument(Document):
    """``metrics.json``: every number of the card, and where it comes from.

    Attributes:
        splits: The exported network on the validation and the test split.
        configuration: Mean and deviation over the configuration's seeds, by split and metric.
        seeds: What the search measured for each seed.
        reference: The most accurate network of the search; None where it is this one, or was not trained.
        size: Parameters and multiply-accumulates.
        device: What it asks of a device; None for a network that has no device format.
        conventions: What the numbers mean.
        dataset: What they were measured on.
        environment: The machine and the versions that measured ``splits``.
        source: The study, the trial, its parameters: where the network comes from.
    """

    schema_version: Literal[1] = 1
    splits: dict[Literal["validation", "test"], SplitMetrics]
    configuration: dict[str, dict[str, SpreadDocument]]
    seeds: list[SeedMetrics]
    reference: ReferenceDocument | None = None
    size: SizeDocument
    device: DeviceDocument | None = None
    conventions: Conventions
    dataset: DatasetDocument
    environment: dict[str, str]
    source: dict[str, JsonValue]

    @model_validator(mode="after")
    def _both_splits(self) -> MetricsDocument:
        if len(self.splits) != 2:
            raise ValueError("splits must have validation and test")
        if self.splits["validation"].layers.keys() != self.splits["test"].layers.keys():
            raise ValueError("splits must have the same layers")
        measures = self.splits["validation"].measures.keys()
        if measures != self.splits["test"].measures.keys():
            raise ValueError("splits must have the same measures")
        if self.conventions.accuracy not in {"accuracy", *measures}:
            raise ValueError("the accuracy in aIQ must be one of the measures")
        return self


def parse_document(kind: type[Any], name: str, content: bytes) -> Any:  # noqa: ANN401 - the kind given
    """Read a document from the bytes of a file.

    Args:
        kind: Class of the document.
        name: Name of the file, for the message.
        content: Its bytes.

    Returns:
        An object of the class.

    Raises:
        BundleError: The file is no such document; the message names the place.
    """
    try:
        document = kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise BundleError(f"{name}: refused: {where}: {first['msg']}.") from None
    for value in _scalars(document.model_dump(mode="json")):
        if isinstance(value, str) and not value.isprintable():
            raise BundleError(f"{name}: refused: the text {value[:80]!r} has characters that no name has.")
    return document
