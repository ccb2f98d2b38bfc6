"""What a pt2 file may hold: the few things that a network of ours needs, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch.utils import _pytree as pytree

from aiq_search.arrays import item_count
from aiq_search.errors import first_line
from aiq_search.export.errors import BundleError

__all__ = ["check_graph", "check_member_names", "check_weights"]

_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id|models/model\.json"
    r"|data/weights/model_weights_config\.json|data/weights/weight_\d+"
    r"|data/constants/model_constants_config\.json|data/constants/tensor_\d+"
    r"|data/sample_inputs/model\.pt"
)
_REQUIRED = ("archive_format", "archive_version", "models/model.json", "data/sample_inputs/model.pt")

# Pure functions of tensors, none of which reads a file or makes a tensor of any size from a number.
_OPERATORS = frozenset(
    """
    _assert_tensor_metadata _to_copy abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d add add_
    addmm alias amax amin argmax avg_pool1d avg_pool2d batch_norm bmm cat celu celu_ chunk clamp clone
    contiguous conv1d conv2d conv3d detach detach_ div div_ dropout elu elu_ erf exp feature_dropout flatten
    gelu group_norm hardsigmoid hardswish hardswish_ hardtanh hardtanh_ instance_norm layer_norm leaky_relu
    leaky_relu_ linear log log_softmax logsumexp lift_fresh_copy matmul max max_pool1d max_pool2d max_pool3d
    mean mish mm mul mul_ neg permute pow prelu relu relu6 relu_ reshape rms_norm rsqrt rsub select selu selu_
    sigmoid sigmoid_ silu silu_ slice softmax softplus split sqrt squeeze stack sub sub_ sum sym_size t tanh
    tanh_ to transpose unflatten unsqueeze var view
    """.split()  # noqa: SIM905 - one name a line would be a long list
)
_TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.\w+")
_ARGUMENTS = frozenset(
    """
    as_none as_tensor as_tensors as_optional_tensor as_optional_tensors as_int as_ints as_float as_floats
    as_bool as_bools as_string as_sym_int as_sym_ints as_name as_expr as_scalar_type as_memory_format
    as_layout as_device
    """.split()  # noqa: SIM905 - one name a line would be a long list
)
_STRINGS = ("none", "tanh", "floor", "trunc")  # gelu(approximate=), div(rounding_mode=)
# torch evaluates symbolic sizes as Python: numbers, symbols, and their sums and products.
_EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d{1,6}'(?:, (?:positive|nonnegative|integer)=True)*\)"
    r"|Integer\(-?\d{1,12}\)|Add\(|Mul\(|\)|, ){1,50}"
)
# Names become Python code in torch: words and dots cannot do anything there.
_WORD = re.compile(r"[\w.]{0,1000}", re.ASCII)
_VERSION = re.compile(r"[\w.+-]{0,100}", re.ASCII)
_LARGEST_INT = 2**40
_TO_THE_END = 2**63 - 1  # of a slice
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}  # by torch's ScalarType


def _refuse(reason: str) -> BundleError:
    return BundleError(f"model.pt2: refused: {reason}.")


def check_member_names(names: Collection[str]) -> None:
    """Check that an archive has the members that torch.export writes for tensors, and no other.

    Shared libraries, extra files, pickled constants and weights in the old format have other names.

    Args:
        names: Of the members, without the root folder.

    Raises:
        BundleError: One is not known, or missing.
    """
    for name in names:
        if not _MEMBER.fullmatch(name):
            raise _refuse(f"its member {name!r} is no part of a graph with plain tensors")
    for name in _REQUIRED:
        if name not in names:
            raise _refuse(f"its member {name!r} is missing")


def check_weights(config: Any, members: Mapping[str, bytes], folder: str) -> None:  # noqa: ANN401 - JSON
    """Check that each weight is a plain tensor, exactly as large as its member.

    Args:
        config: The JSON document that lists the weights.
        members: Bytes by name.
        folder: Where the weights are among the members.

    Raises:
        BundleError: A weight is pickled, missing, or of another size.
    """
    try:
        for name, entry in config["config"].items():
            if entry["use_pickle"] is not False:
                raise _refuse(f"{name} is pickled")
            meta = entry["tensor_meta"]
            shape = [size["as_int"] for size in meta["sizes"]]
            strides = [stride["as_int"] for stride in meta["strides"]]
            numbers = [*shape, *strides, meta["storage_offset"]["as_int"], meta["dtype"]]
            if not all(type(number) is int and 0 <= number <= _LARGEST_INT for number in numbers):
                raise _refuse(f"{name} has a size that is no whole number from 0 to {_LARGEST_INT:,}")
            declared = item_count(shape) * _ITEM_BYTES[meta["dtype"]]
            given = len(members[folder + entry["path_name"]])
            if declared != given:
                raise _refuse(f"{name} declares shape {shape}, {declared:,} bytes, but has {given:,}")
            _check_words(entry, name)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise _refuse(
            f"the list of its weights is damaged ({type(error).__name__}: {first_line(error)})"
        ) from None


def check_graph(document: Any) -> Any:  # noqa: ANN401 - JSON
    """Check that a graph only calls known, pure functions on tensors.

    Args:
        document: The content of ``models/model.json``.

    Returns:
        The document without source lines.

    Raises:
        BundleError: It calls anything else, or holds a text that torch would run as Python.
    """
    try:
        if document.get("guards_code"):
            raise _refuse("it has guards, which torch runs as Python")
        module = document["graph_module"]
        if module["graph"].get("custom_obj_values") or module.get("treespec_namedtuple_fields"):
            raise _refuse("it has objects that are no tensors")
        nodes = [
            {**node, "target": _operator(node["target"]), "metadata": {}} for node in module["graph"]["nodes"]
        ]
        _check_interface(module["module_call_graph"])
        calls = [{**call, "signature": None} for call in module["module_call_graph"]]
        graph = {**module["graph"], "nodes": nodes}
        _check_words({**document, "graph_module": {**module, "graph": graph, "module_call_graph": calls}}, "")
        return {**document, "graph_module": {**module, "graph": graph}}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refuse(f"its graph is damaged ({type(error).__name__}: {first_line(error)})") from None


def _operator(target: str) -> str:
    match = _TARGET.fullmatch(target)
    if match is None or match[1] not in _OPERATORS:
        raise _refuse(f"its graph calls {target!r}, which is not among the functions of a network")
    return target


def _check_interface(calls: list[dict[str, Any]]) -> None:
    """The signature must be ours: one tensor in, logits and probabilities out."""
    inputs = pytree.treespec_dumps(pytree.tree_structure(((0,), {})))
    outputs = pytree.treespec_dumps(pytree.tree_structure({"logits": 0, "probabilities": 0}))
    for call in calls:
        signature = call["signature"]
        if signature is None and call["fqn"]:
            continue
        if signature["in_spec"] != inputs or signature["out_spec"] != outputs:
            raise _refuse("it does not take one tensor and give logits and probabilities")
        _check_words({**signature, "in_spec": "", "out_spec": ""}, "signature")


def _check_words(value: Any, key: str) -> None:  # noqa: ANN401 - JSON; one case a line
    """Check every text and number of a JSON document, at any depth, by its key."""
    if isinstance(value, dict):
        for name, part in value.items():
            if not _WORD.fullmatch(name) or (name.startswith("as_") and name not in _ARGUMENTS):
                raise _refuse(f"{json.dumps(name)} is not expected in a graph with plain tensors")
            _check_words(part, name)
    elif isinstance(value, list):
        for part in value:
            _check_words(part, key)
    elif isinstance(value, str):
        if not _known_text(value, key):
            raise _refuse(f"{key}: the text {value[:80]!r} is not expected there")
    elif isinstance(value, int) and abs(value) > _LARGEST_INT and value != _TO_THE_END:
        raise _refuse(f"{key}: a number is larger than {_LARGEST_INT:,}")


def _known_text(value: str, key: str) -> bool:
    match key:
        case "expr_str":
            return bool(_EXPRESSION.fullmatch(value))
        case "as_string":
            return value in _STRINGS
        case "type":
            return value == "cpu"
        case "torch_version":
            return bool(_VERSION.fullmatch(value))
        case _:
            return bool(_WORD.fullmatch(value))
