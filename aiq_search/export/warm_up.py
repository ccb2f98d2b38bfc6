"""What exporting imports, which takes seconds, imported before there is something to export."""

from __future__ import annotations

from importlib import import_module

from torch import nn

from aiq_search.export.documents import PreprocessingDocument
from aiq_search.export.pt2 import export_program, pt2_bytes
from aiq_search.lowering.onnx_extra import onnx_available

__all__ = ["warm_up"]


def warm_up() -> None:
    """Export a tiny network into memory: most of torch's exporter is imported by its first use."""
    preprocessing = PreprocessingDocument(
        input_dtype="float32",
        input_shape=(1,),
        scale=(1.0,),
        shift=(0.0,),
        classes=("a", "b"),
        training_range=(0.0, 1.0),
    )
    pt2_bytes(export_program(nn.Linear(1, 2), preprocessing))
    # torch.onnx is not run: it redirects stdout while it translates, which belongs to the search.
    for name in ("onnx.reference", "onnxruntime", "onnxscript") if onnx_available() else ():
        import_module(name)
