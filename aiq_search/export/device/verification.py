"""The proof that a bundle's device formats are its network's."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import aiq_search
from aiq_search.datasets import Dataset
from aiq_search.errors import InputError
from aiq_search.export.bundle import Bundle
from aiq_search.export.check import Check
from aiq_search.export.device.c_float import c_files
from aiq_search.export.device.c_int8 import int8_c_files
from aiq_search.export.device.compiler import CompilerError, run_c
from aiq_search.export.device.demand import builds, measure_int8, weight_bytes
from aiq_search.export.errors import BundleError, BundleMismatchError
from aiq_search.export.measurement import environment
from aiq_search.export.onnx_file import checked_onnx
from aiq_search.lowering.costs import activation_bytes
from aiq_search.lowering.onnx_extra import onnx_available
from aiq_search.lowering.plan import Plan
from aiq_search.lowering.planning import plan_network
from aiq_search.lowering.quantization import NAME, Quantised

__all__ = ["check_device", "check_int8", "check_texts", "run_texts"]

Outputs: TypeAlias = Mapping[str, NDArray[np.float32]]
Texts: TypeAlias = dict[str, dict[str, bytes]]

# How far the logits of the C file may be from onnxruntime's, in the steps of their eight bits, where a
# network has average pools: a mean of few integers is often half-way between two, where the last bit of a
# float decides.
_STEPS_WITH_MEANS = 8

# Another processor rounds otherwise: so many samples may fall to the other side.
_ELSEWHERE = 3
# Multiply-accumulates for which a C file is run, some 20 seconds: only convolutions of hundreds of channels
# reach it, and run on fewer samples than the test split has.
_MOST_MACS = 2e10


def check_texts(bundle: Bundle) -> Generator[Check, None, Texts]:
    """Write the C files again from the weights, and compare: a stranger's text is never compiled.

    Yields:
        What was compared.

    Returns:
        The C files by format (c, int8), as this package writes them.

    Raises:
        BundleError: A file has other bytes.
    """
    texts: Texts = {}
    for name, file in (("c", "model.c"), ("int8", "model_int8.c")):
        if file not in bundle.files:
            continue
        if name == "int8" and not onnx_available():
            yield Check(file, "not compared: pip install onnx onnxruntime onnxscript", passed=None)
            continue
        written = _text(bundle, name, file)
        differ = [each for each, content in written.items() if bundle.files.get(each) != content]
        by = bundle.metrics.environment.get("aiq_search", "an unknown version")
        if not differ:
            texts[name] = written
            yield Check(file, "it and its header are what these weights give, byte for byte")
        elif by != aiq_search.__version__:
            yield Check(
                file,
                f"not compared: written by aiq-search {by}, and this is {aiq_search.__version__}",
                passed=None,
            )
        else:
            raise BundleError(
                f"{differ[0]}: refused: it is not the C that aiq-search writes for these weights, and may do "
                "anything; export the bundle again."
            )
    return texts


def _plan(bundle: Bundle) -> Plan:
    return plan_network(bundle.model, bundle.preprocessing)


def _quantised(bundle: Bundle) -> Quantised:
    if NAME not in bundle.files:
        raise BundleError(f"{NAME}: missing from the bundle; export it again.")
    checked = checked_onnx(bundle.files[NAME], NAME)
    try:
        return Quantised.of(checked, _plan(bundle))
    except InputError as error:
        raise BundleError(f"{NAME}: refused: {error}") from None


def _text(bundle: Bundle, name: str, file: str) -> dict[str, bytes]:
    try:
        plan = _plan(bundle)
        return c_files(plan) if name == "c" else int8_c_files(plan, _quantised(bundle))
    except BundleError:
        raise
    except InputError as error:
        raise BundleError(f"{file}: refused: there is none for this network: {error}") from None


def run_texts(
    bundle: Bundle, texts: Texts, samples: Sequence[NDArray[Any]]
) -> Generator[Check, None, dict[str, list[Outputs]]]:
    """Compile the C files and run them, where there is a compiler.

    Args:
        bundle: The bundle.
        texts: Of ``check_texts``.
        samples: Arrays of raw inputs; of a large network's last one only the first.

    Yields:
        What could not be run.

    Returns:
        Logits and probabilities of each array, by format.
    """
    classes, macs = bundle.architecture.classes, bundle.metrics.size.macs
    results: dict[str, list[Outputs]] = {}
    last = max(1, min(len(samples[-1]), int(_MOST_MACS / max(1, macs))))
    samples = [*samples[:-1], samples[-1][:last]]
    sizes = np.cumsum([len(array) for array in samples])[:-1]
    for name, files in texts.items():
        stem = next(iter(files)).removesuffix(".c")
        try:
            outputs = run_c(stem, files, np.concatenate(samples), classes, macs=macs)
        except CompilerError as error:
            yield Check(f"{stem}.c, compiled", f"not run: {error}", passed=None)
            continue
        parts = [np.split(outputs[key], sizes) for key in ("logits", "probabilities")]
        results[name] = [{"logits": one, "probabilities": other} for one, other in zip(*parts, strict=True)]
    return results


def check_device(bundle: Bundle, texts: Texts) -> Iterator[Check]:
    """What the network asks of a device is what metrics.json says."""
    recorded = bundle.metrics.device
    if recorded is None:
        return
    plan = _plan(bundle)
    for what, old, new in (
        ("weights", recorded.weights, weight_bytes(plan)),
        ("activations", recorded.activations, activation_bytes(plan)),
    ):
        if old != new:
            raise BundleMismatchError(f"metrics.json: {what} on a device take {new} bytes, not {old}.")
    if not recorded.builds:
        return
    built = builds(texts, bundle.preprocessing)
    for name, build in recorded.builds.items():
        again = built.get(name)
        if again is None or again.compiler != build.compiler:
            yield Check(
                f"flash and RAM, {name}", f"not compiled again: {build.compiler} is not here", passed=None
            )
        elif again != build:
            raise BundleMismatchError(
                f"metrics.json: the C file takes {again.flash:,} bytes of flash and {again.ram:,} of RAM in "
                f"{name}, not {build.flash:,} and {build.ram:,}."
            )
        else:
            yield Check(f"flash and RAM, {name}", f"{build.flash:,} and {build.ram:,} bytes on a Cortex-M4")


def check_int8(
    bundle: Bundle,
    dataset: Dataset | None,
    exact: Sequence[Outputs],
    int8: Sequence[Outputs] | None,
    compiled: Sequence[Outputs] | None,
) -> Iterator[Check]:
    """The network in eight bits gives the recorded accuracy, and its C file the same answers.

    Args:
        bundle: The bundle.
        dataset: Its data, if they are here.
        exact: Outputs of the float32 network for the example, and for the test split if there are data.
        int8: Likewise of ``model_int8.onnx``, where it was run.
        compiled: Likewise of ``model_int8.c``.

    Raises:
        BundleMismatchError: They differ.
    """
    if NAME not in bundle.files:
        return
    if int8 is None:
        yield Check("int8", "not run: pip install onnx onnxruntime onnxscript", passed=None)
        return
    quantised = _quantised(bundle)
    if compiled is not None:
        logits = compiled[-1]["logits"]
        yield _compare_steps(quantised, _plan(bundle), int8[-1]["logits"][: len(logits)], logits)
    recorded = bundle.metrics.device.int8 if bundle.metrics.device else None
    if recorded is None:
        raise BundleError(f"metrics.json: refused: it says nothing about {NAME}.")
    if dataset is None:
        yield Check("int8", "accuracy not measured: verified without the data", passed=None)
        return
    measured = measure_int8(
        bundle.model,
        _plan(bundle),
        quantised,
        dataset,
        exact=exact[1]["logits"],
        int8=int8[1]["logits"],
        beta=bundle.metrics.conventions.beta,
        capture=bundle.metrics.conventions.capture,
    )
    here = environment() == bundle.metrics.environment
    allowed = 0.0 if here else _ELSEWHERE / len(dataset.test)
    for name, new in measured.model_dump().items():
        old = getattr(recorded, name)
        if not abs(old - new) <= allowed:
            raise BundleMismatchError(f"int8: {name} is {new!r}, but metrics.json has {old!r}.")
    yield Check(
        "int8",
        f"{len(dataset.test):,} samples: accuracy {measured.accuracy:.4f}, a drop of {measured.drop:.4f}; "
        f"{measured.agreement:.2%} have the class of float32; aIQ of its weights {measured.aiq:.4f}",
    )


def _compare_steps(
    quantised: Quantised, plan: Plan, one: NDArray[np.float32], other: NDArray[np.float32]
) -> Check:
    """Logits in eight bits have few values: two that differ are whole steps apart."""
    found = quantised.ranges.get(plan.parts)
    if found is None:
        raise BundleError(f"{NAME}: refused: its logits are not quantised.")
    steps = np.rint(np.abs(one.astype(np.float64) - other) / found[0])
    allowed = _STEPS_WITH_MEANS if plan.has_means else 1
    if not (steps <= allowed).all():
        row, column = np.argwhere(~(steps <= allowed))[0]
        raise BundleMismatchError(
            f"model_int8.c and {NAME} differ: logit of sample {row}, class {column}: {other[row, column]} "
            f"and {one[row, column]}."
        )
    apart = int((steps > 0).sum())
    how = f"{apart:,} of {steps.size:,} logits at most {steps.max():.0f} of 256 steps apart"
    how = how if apart else "all logits equal"
    return Check("int8, onnx and c", f"{len(one):,} samples: {how}")
