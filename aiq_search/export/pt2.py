"""``model.pt2``: the network as a graph of torch.export, without traces of this machine, opened with care.

``torch.export.load`` must not be given a stranger's file: it unpickles sample inputs, weights and
constants, loads shared libraries, evaluates symbolic shapes and guards as Python, and calls any function of
torch that the graph names. So a file is taken apart here, everything in it that is not known to be
harmless is refused, and what torch loads is a new archive of the parts that were checked.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aiq_search.errors import InputError, first_line
from aiq_search.export.archive import read_archive
from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.errors import BundleError
from aiq_search.export.network import StandaloneNetwork, raw_dtype
from aiq_search.export.pt2_check import check_graph, check_member_names, check_weights

__all__ = ["checked_pt2", "export_program", "load_pt2", "pt2_bytes"]

NAME = "model.pt2"
_LONGEST_NAME = 500


def export_program(network: nn.Module, preprocessing: PreprocessingDocument) -> torch.export.ExportedProgram:
    """Trace a network with its preprocessing, for any number of samples.

    Args:
        network: On normalised inputs.
        preprocessing: Of the raw inputs.

    Returns:
        The program, without the file names and source lines that torch notes in it.

    Raises:
        InputError: The network cannot be traced.
    """
    # Two samples: with one, torch would fix the batch to one.
    example = torch.zeros((2, *preprocessing.input_shape), dtype=raw_dtype(preprocessing))
    standalone = StandaloneNetwork(network, preprocessing)
    try:
        program = torch.export.export(
            standalone, (example,), dynamic_shapes={"inputs": {0: torch.export.Dim("batch", min=1)}}
        )
        _fit_names(program)
    except Exception as error:  # torch raises many kinds, and the network's own code may raise any
        raise InputError(
            f"torch.export cannot trace this network for any number of samples ({first_line(error)})."
        ) from error
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "torch_fn"):
            node.meta.pop(key, None)
    return program


def _fit_names(program: torch.export.ExportedProgram) -> None:
    """Give weights names of letters, digits, dots and underscores: others are refused when the file is read.

    Modules may be named otherwise ("fc:1"), and code that reads the graph could take such a name for Python.
    """
    fit: dict[str, str] = {}
    for name in (*program.state_dict, *program.constants):
        fitting = unique = re.sub(r"[^\w.]", "_", name, flags=re.ASCII)[:_LONGEST_NAME]
        while unique in fit.values():
            unique = f"{fitting}_{len(fit)}"
        fit[name] = unique
    signature = program.graph_signature
    for spec in (*signature.input_specs, *signature.output_specs):
        spec.target = fit.get(spec.target or "", spec.target)
    for tensors in (program.state_dict, program.constants):
        renamed = {fit[name]: tensor for name, tensor in tensors.items()}
        tensors.clear()
        tensors.update(renamed)
    # The list of the modules that were called, of which only the root's signature is needed.
    program.module_call_graph[:] = [call for call in program.module_call_graph if not call.fqn]


def pt2_bytes(program: torch.export.ExportedProgram) -> bytes:
    """A program as the bytes of a pt2 file, which ``load_pt2`` accepts.

    Raises:
        InputError: The program uses what ``load_pt2`` refuses.
    """
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    try:
        _checked_members(buffer.getvalue())
    except BundleError as error:
        raise InputError(str(error)) from None
    return buffer.getvalue()


def checked_pt2(content: bytes) -> bytes:
    """A pt2 file made again from the parts of another, in which nothing can run code.

    Args:
        content: The bytes of the file.

    Raises:
        BundleError: The file is damaged, or holds what a network of ours does not need.
    """
    rebuilt = io.BytesIO()
    with zipfile.ZipFile(rebuilt, "w") as archive:
        for name, member in _checked_members(content).items():
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), member)
    return rebuilt.getvalue()


def load_pt2(content: bytes) -> Callable[[Tensor], dict[str, Tensor]]:
    """Load a pt2 file, after checking that nothing in it can run code.

    Args:
        content: The bytes of the file.

    Returns:
        A function from raw inputs to logits and probabilities.

    Raises:
        BundleError: The file is damaged, or holds what a network of ours does not need.
    """
    checked = io.BytesIO(checked_pt2(content))
    try:
        return torch.export.load(checked).module()
    except Exception as error:  # a graph that contradicts itself fails anywhere in torch
        raise BundleError(
            f"{NAME}: refused: torch cannot load it ({type(error).__name__}: {first_line(error)})."
        ) from None


def _checked_members(content: bytes) -> dict[str, bytes]:
    """The members of the archive without its root folder, each one checked, sample inputs written again."""
    members = read_archive(NAME, content)
    roots = {name.partition("/")[0] for name in members}
    if len(roots) != 1:
        raise BundleError(f"{NAME}: refused: expected one folder in it, but it has {sorted(roots)}.")
    members = {name.partition("/")[2]: member for name, member in members.items()}
    check_member_names(members)
    check_weights(_json(members, "data/weights/model_weights_config.json"), members, "data/weights/")
    check_weights(_json(members, "data/constants/model_constants_config.json"), members, "data/constants/")
    graph = check_graph(_json(members, "models/model.json"))
    samples = _sample_inputs(members["data/sample_inputs/model.pt"])
    return {
        **members,
        "models/model.json": json.dumps(graph).encode(),
        "data/sample_inputs/model.pt": samples,
    }


def _json(members: Mapping[str, bytes], name: str) -> Any:  # noqa: ANN401 - what the file holds
    try:
        return json.loads(members[name])
    except KeyError:
        raise BundleError(f"{NAME}: refused: its member {name} is missing.") from None
    except (ValueError, RecursionError):
        raise BundleError(f"{NAME}: refused: its member {name} is not JSON.") from None


def _sample_inputs(pickled: bytes) -> bytes:
    """Sample inputs that hold only tensors, pickled by ourselves."""
    read_archive(f"{NAME}: sample inputs", pickled)
    try:
        samples = torch.load(io.BytesIO(pickled), weights_only=True, map_location="cpu")
    except Exception as error:  # an unpickler fails in any way on a forged file
        raise BundleError(
            f"{NAME}: refused: its sample inputs are a pickle with more than tensors in it "
            f"({first_line(error)})."
        ) from None
    if not _is_samples(samples):
        raise BundleError(f"{NAME}: refused: its sample inputs are not one tensor.")
    buffer = io.BytesIO()
    torch.save(samples, buffer)
    return buffer.getvalue()


def _is_samples(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], tuple)
        and len(value[0]) == 1
        and type(value[0][0]) is Tensor
        and value[1] == {}
    )
