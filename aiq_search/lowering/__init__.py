"""Networks as small devices compute them: a plan of plain steps, and the same in eight bits.

``planning`` makes the plan from a torch network, ``quantization`` its ONNX in eight bits, and ``eight_bits``
measures how accurate that is. ``export.device`` writes C from both.
"""
