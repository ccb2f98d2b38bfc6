"""Classify the samples of an .npy or .npz with onnxruntime and numpy: python predict.py example_input.npz"""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

if len(sys.argv) != 2:
    print(__doc__, file=sys.stderr)
    sys.exit(2)
here = Path(__file__).parent
document = json.loads((here / "preprocessing.json").read_text(encoding="utf-8"))
try:
    data = np.load(sys.argv[1])
    names = getattr(data, "files", None)  # of an .npz: the array "inputs", or the first
    inputs = data if names is None else data["inputs" if "inputs" in names else names[0]]
    if document["input_dtype"] == "float32":
        inputs = inputs.astype("float32")
    session = onnxruntime.InferenceSession(str(here / "model.onnx"), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"inputs": inputs})
except Exception as error:  # onnxruntime's have no common base
    print(f"{sys.argv[1]}: {error}", file=sys.stderr)
    sys.exit(2)
for number, row in enumerate(probabilities):
    print(number, document["classes"][row.argmax()], f"{row.max():.4f}", sep="\t")
