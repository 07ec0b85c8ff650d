"""Writes the small ONNX models that the tests of engine/ort run. Needs: pip install onnx."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

HERE = pathlib.Path(__file__).parent
TYPES = {"bool": T.BOOL, "int8": T.INT8, "int32": T.INT32, "int64": T.INT64, "uint8": T.UINT8, "float32": T.FLOAT, "float64": T.DOUBLE}


def value(name, dtype, shape):
    return h.make_tensor_value_info(name, dtype, shape)


def save(name, nodes, inputs, outputs, initializers=(), ir=8, opset=18, check=True):
    graph = h.make_graph(list(nodes), name, inputs, outputs, list(initializers))
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=ir, producer_name="scrawl-test")
    if check:
        onnx.checker.check_model(model)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


# y = x*w + b, and the mean of y as a rank-0 output.
weights = [nh.from_array(np.float32([2, 3, 4]), "w"), nh.from_array(np.float32([1, 1, 1]), "b")]
affine = [
    h.make_node("Mul", ["x", "w"], ["xw"]),
    h.make_node("Add", ["xw", "b"], ["y"]),
    h.make_node("ReduceMean", ["y"], ["mean"], keepdims=0),
]
affine_out = [value("y", T.FLOAT, ["N", 3]), value("mean", T.FLOAT, [])]
save("affine", affine, [value("x", T.FLOAT, ["N", 3])], affine_out, weights)

# The same as files before IR version 4 have it: weights are listed as inputs too.
save("affine_ir3", affine, [value("x", T.FLOAT, ["N", 3]), value("w", T.FLOAT, [3]), value("b", T.FLOAT, [3])], affine_out, weights, ir=3, opset=13)

# Every element type, in and out, of rank 1 and of rank 0.
for name, shape in (("vectors", ["N"]), ("scalars", [])):
    save(
        name,
        [h.make_node("Identity", [f"in_{t}"], [f"out_{t}"]) for t in TYPES],
        [value(f"in_{t}", d, shape) for t, d in TYPES.items()],
        [value(f"out_{t}", d, shape) for t, d in TYPES.items()],
    )

# An output of unknown rank: Reshape to whatever the second input says.
for name, d in (("reshape", T.FLOAT), ("reshape_int64", T.INT64)):
    save(
        name,
        [h.make_node("Reshape", ["x", "shape"], ["y"]), h.make_node("Neg", ["x"], ["neg"]), h.make_node("Reshape", ["x", "shape"], ["z"])],
        [value("x", d, ["N"]), value("shape", T.INT64, ["R"])],
        [value("neg", d, ["N"]), value("y", d, None), value("z", d, None)],
        check=False,  # the checker wants shapes, ONNX Runtime does not
    )

# n steps of s = s@x/|s|: as slow as one likes.
body = h.make_graph(
    [
        h.make_node("MatMul", ["s_in", "x"], ["p"]),
        h.make_node("ReduceMax", ["p"], ["top"], keepdims=0),
        h.make_node("Div", ["p", "top"], ["s_out"]),
        h.make_node("Identity", ["go_on"], ["go_on_out"]),
    ],
    "body",
    [value("i", T.INT64, []), value("go_on", T.BOOL, []), value("s_in", T.FLOAT, ["M", "M"])],
    [value("go_on_out", T.BOOL, []), value("s_out", T.FLOAT, ["M", "M"])],
)
save(
    "loop",
    [h.make_node("Loop", ["n", "", "x"], ["s"], body=body)],
    [value("n", T.INT64, []), value("x", T.FLOAT, ["M", "M"])],
    [value("s", T.FLOAT, ["M", "M"])],
)

# What cannot be passed.
save("float16", [h.make_node("Identity", ["x"], ["y"])], [value("x", T.FLOAT16, ["N"])], [value("y", T.FLOAT16, ["N"])])
save(
    "sequence",
    [h.make_node("SequenceConstruct", ["x"], ["y"])],
    [value("x", T.FLOAT, ["N"])],
    [h.make_tensor_sequence_value_info("y", T.FLOAT, ["N"])],
)
save("no_inputs", [h.make_node("Constant", [], ["y"], value=nh.from_array(np.float32([1]), "c"))], [], [value("y", T.FLOAT, [1])])

# Names of differing lengths, a fixed size, and one output that needs only one of the inputs.
save(
    "names",
    [h.make_node("Neg", ["a"], ["alpha"]), h.make_node("Add", ["a", "b_long_name"], ["beta_long"])],
    [value("a", T.FLOAT, [2]), value("b_long_name", T.FLOAT, [2])],
    [value("alpha", T.FLOAT, [2]), value("beta_long", T.FLOAT, [2])],
)
