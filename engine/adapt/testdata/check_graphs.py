#!/usr/bin/env python3
"""Checks graphs as others see them: with ONNX's own checker, types and shapes included, and by loading and running them in this Python's ONNX Runtime.

    python check_graphs.py FOLDER      # needs onnx and onnxruntime

For each NAME.onnx of the folder there are NAME.inputs.bin, its inputs in order as float32 (or int64), and NAME.outputs.bin, what it must
answer. Prints the versions; exits with 1 when a graph is wrong.
"""
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
failed = 0
print("onnx", onnx.__version__)
print("onnxruntime", onnxruntime.__version__)
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        data, at, feed = path.with_suffix(".inputs.bin").read_bytes(), 0, {}
        shapes = [list(map(int, line.split()[1:])) for line in path.with_suffix(".shapes").read_text().splitlines()]
        for i, shape in zip(session.get_inputs(), shapes):
            kind = np.int64 if i.type == "tensor(int64)" else np.float32
            n = int(np.prod(shape)) * np.dtype(kind).itemsize
            feed[i.name] = np.frombuffer(data[at:at + n], kind).reshape(shape)
            at += n
        assert at == len(data), f"{at} of {len(data)} bytes of inputs were read"
        got = np.concatenate([a.astype(np.float32).reshape(-1) for a in session.run(None, feed)])
        want = np.frombuffer(path.with_suffix(".outputs.bin").read_bytes(), np.float32)
        error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
        assert error < 1e-4, f"answers differ by {error}, relatively"
        print(path.name, "is valid; its answers differ by", error)
    except Exception as e:  # all graphs want to be looked at
        failed = 1
        print(path.name, "FAILED", e)
sys.exit(failed)
