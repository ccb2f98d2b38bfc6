"""Networks as small devices compute them: a plan of plain steps, and the same in eight bits.

``planning`` makes the plan from a torch network, ``float_onnx`` its ONNX, and ``quantization`` that in eight
bits. ``eight_bits`` measures how accurate that is, ``costs`` what a sample takes. ``export.device`` writes C.
"""
