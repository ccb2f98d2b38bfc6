"""A graph of unknown origin computes in this process, which first bounds its own memory, time and output.

``bounded_run`` starts it as a script; it imports nothing of this package, so that it starts fast. The graph
was checked before: it calls known functions on tensors and nothing else. What no check can see is how much
they compute.

Arguments: format, graph, inputs (npz), outputs (npz to write), samples a batch, then bytes of memory, seconds
of processor time and bytes of output. A failure is one line on standard output and exit code 3.
"""

from __future__ import annotations

import importlib
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_LIBRARIES = {"pt2": "torch", "onnx": "onnxruntime", "int8": "onnxruntime"}
_OUTPUTS = ("logits", "probabilities")
# Loading a graph may take so many times the processor time that importing its library took, and a second.
_LOADING = 2
_FAILED = 3


def _load_pt2(torch: Any, path: str) -> Callable[[Any], dict[str, Any]]:  # noqa: ANN401 - a module
    torch.set_num_threads(1)
    program = torch.export.load(path).module()

    def run(batch: Any) -> dict[str, Any]:  # noqa: ANN401
        with torch.inference_mode():
            return {name: tensor.numpy() for name, tensor in program(torch.from_numpy(batch)).items()}

    return run


def _load_onnx(onnxruntime: Any, path: str) -> Callable[[Any], dict[str, Any]]:  # noqa: ANN401 - a module
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: dict(zip(_OUTPUTS, session.run(list(_OUTPUTS), {"inputs": batch}), strict=True))


def _bound(memory: int, seconds: int, output: int) -> None:
    """Take no more than so much from here on."""
    status = Path("/proc/self/status")  # not on every system; there, memory has no bound
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        limit = int(fields["VmData"].split()[0]) * 1024 + memory
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    used = time.process_time()
    limit = math.ceil(used * (1 + _LOADING)) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(kind: str, graph: str, inputs: str, outputs: str, batch: str, *bounds: str) -> int:
    """Run a graph on every array of a file; the exit code."""
    library = importlib.import_module(_LIBRARIES[kind])
    with np.load(inputs, allow_pickle=False) as file:
        samples = {name: file[name] for name in file.files}
    size = int(batch)
    _bound(*map(int, bounds))
    try:
        run = {"torch": _load_pt2, "onnxruntime": _load_onnx}[_LIBRARIES[kind]](library, graph)
        results: dict[str, Any] = {}
        for name, array in samples.items():
            parts = [run(array[start : start + size]) for start in range(0, len(array), size)]
            for output in _OUTPUTS:
                results[f"{name}.{output}"] = np.concatenate([part[output] for part in parts])
        np.savez(outputs, **results)
    except Exception as error:
        lines = str(error).strip().splitlines()
        print(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
