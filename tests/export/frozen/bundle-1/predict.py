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
classes = json.loads((here / "preprocessing.json").read_text(encoding="utf-8"))["classes"]
data = np.load(sys.argv[1])
names = getattr(data, "files", None)  # of an .npz: the array "inputs", or the first
inputs = data if names is None else data["inputs" if "inputs" in names else names[0]]
session = onnxruntime.InferenceSession(str(here / "model.onnx"), providers=["CPUExecutionProvider"])
(probabilities,) = session.run(["probabilities"], {"inputs": inputs})
for number, row in enumerate(probabilities):
    print(number, classes[row.argmax()], f"{row.max():.4f}", sep="\t")
