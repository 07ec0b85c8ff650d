#!/usr/bin/env python3
"""Makes the golden models that engine/onnx and its reference interpreter are tested against.

operators.json.gz: small models, one or a few nodes each, in the forms of opsets 9 to 22, with inputs and the outputs that ONNX Runtime
computes (float32). A model that ONNX Runtime's kernels do not cover is evaluated by onnx.reference instead, and says so.
*.onnx and exports.json.gz: small PyTorch networks as its TorchScript exporter writes them, with PyTorch's outputs at two sizes.

    python make_goldens.py            # writes next to itself

Needs numpy, onnx, onnxruntime and torch (made with numpy 2.4, onnx 1.23.2, onnxruntime 1.31.1, torch 2.5.1).
A case is {"name", "model", "inputs", "outputs", "dynamic"}; a tensor is {"shape", "type", "data"} with little-endian base64 data;
"model" is base64 of the ModelProto (operators) or a file's name (exports); "dynamic" names, for each input, the axes that the test may turn into symbols.
"""
import base64
import gzip
import io
import json
import pathlib
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(20261124)
torch.manual_seed(11)
cases: list[dict] = []
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
         "bool": TensorProto.BOOL, "uint8": TensorProto.UINT8, "int8": TensorProto.INT8}


def r(*shape):
    return np.asarray(rng.standard_normal(shape), np.float32)


def pos(*shape):
    return np.asarray(rng.random(shape) * 2 + 0.3, np.float32)


def distinct(*shape):
    n = int(np.prod(shape))
    return ((rng.permutation(n) - n / 2 + 0.25) * 0.1).reshape(shape).astype(np.float32)


def i64(*v):
    return np.array(v, np.int64)


def f32(*v):
    return np.array(v, np.float32)


def pack(a):
    a = np.asarray(a)
    kind = {"float32": "<f4", "float64": "<f8", "int64": "<i8", "int32": "<i4", "bool": "u1", "uint8": "u1", "int8": "i1"}[str(a.dtype)]
    return {"shape": list(a.shape), "type": str(a.dtype), "data": base64.b64encode(np.ascontiguousarray(a).astype(kind).tobytes()).decode()}


def node(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs.split(), outputs.split(), **attrs) if isinstance(inputs, str) else helper.make_node(op, inputs, outputs.split(), **attrs)


def model(name, nodes, opset, inputs, consts, outputs, functions=()):
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info(k, TYPES[str(v.dtype)], v.shape) for k, v in inputs.items()],
        [helper.make_value_info(o, onnx.TypeProto()) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in consts.items()])
    for o in graph.output:
        o.ClearField("type")
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(f.domain, 1) for f in functions]
    m = helper.make_model(graph, opset_imports=imports, ir_version=8 if opset <= 18 else 10, functions=list(functions))
    # ONNX Runtime wants typed outputs.
    typed = onnx.shape_inference.infer_shapes(m)
    del m.graph.output[:]
    for o in typed.graph.output:
        v = m.graph.output.add()
        v.name = o.name
        v.type.tensor_type.elem_type = o.type.tensor_type.elem_type or TensorProto.FLOAT
    return m


def case(name, nodes, inputs, consts=None, outputs="y", opset=18, dyn=None, functions=(), reference=False, fixed=False):
    """Records a case; by default all axes but that of the channels (1) of each float input may be symbolic."""
    consts = consts or {}
    outputs = outputs.split()
    nodes = nodes if isinstance(nodes, list) else [nodes]
    m = model(name.replace(" ", "_"), nodes, opset, inputs, consts, outputs, functions)
    feed = {k: np.asarray(v) for k, v in inputs.items()}
    if reference:
        got = ReferenceEvaluator(m).run(outputs, feed)
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        got = onnxruntime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(outputs, feed)
    if dyn is None:
        dyn = {} if fixed else {k: [a for a in range(v.ndim) if a != 1] for k, v in inputs.items() if v.dtype == np.float32 and v.ndim > 1}
    cases.append({"name": f"{name}, opset {opset}", "model": base64.b64encode(m.SerializeToString(deterministic=True)).decode(),
                  "inputs": {k: pack(v) for k, v in feed.items()}, "outputs": {k: pack(v) for k, v in zip(outputs, got)},
                  "dynamic": dyn})


def convolutions():
    x = r(2, 4, 7, 9)
    for name, w, attrs in [
        ("plain", r(6, 4, 3, 3), {}), ("same", r(6, 4, 3, 3), dict(pads=[1, 1, 1, 1])), ("stride", r(6, 4, 3, 3), dict(strides=[2, 3], pads=[1, 0, 2, 1])),
        ("dilated", r(3, 4, 3, 2), dict(dilations=[2, 3], pads=[2, 1, 2, 2])), ("grouped", r(6, 2, 3, 3), dict(group=2, pads=[1, 1, 1, 1])),
        ("depthwise", r(8, 1, 3, 3), dict(group=4, strides=[2, 2])), ("pointwise", r(5, 4, 1, 1), {}),
        ("SAME_UPPER stride 1", r(3, 4, 4, 3), dict(auto_pad="SAME_UPPER")), ("SAME_LOWER stride 1", r(3, 4, 4, 2), dict(auto_pad="SAME_LOWER")),
        ("VALID", r(3, 4, 4, 3), dict(auto_pad="VALID", strides=[2, 2])),
    ]:
        for opset in (11, 22):
            case("conv " + name, node("Conv", "x w b", "y", **attrs), {"x": x}, {"w": w, "b": r(w.shape[0])}, opset=opset)
    for mode in ("SAME_UPPER", "SAME_LOWER"):
        case(f"conv {mode} stride 2", node("Conv", "x w", "y", auto_pad=mode, strides=[2, 2]), {"x": r(1, 2, 7, 10)}, {"w": r(3, 2, 4, 3)}, opset=11, fixed=True)
    case("conv 1d", node("Conv", "x w", "y", strides=[2], pads=[1, 2]), {"x": r(2, 3, 11)}, {"w": r(4, 3, 3)})
    case("conv 3d", node("Conv", "x w", "y", pads=[1] * 6, strides=[1, 2, 1]), {"x": r(1, 2, 4, 5, 6)}, {"w": r(3, 2, 3, 3, 3)})
    case("conv weight as input", node("Conv", "x w", "y", kernel_shape=[3, 3]), {"x": x, "w": r(2, 4, 3, 3)}, dyn={"x": [0, 2, 3], "w": [0]})
    for name, w, attrs in [
        ("plain", r(4, 3, 2, 2), dict(strides=[2, 2])), ("padded", r(4, 3, 3, 3), dict(strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])),
        ("dilated", r(4, 3, 3, 2), dict(dilations=[2, 3])), ("grouped", r(4, 2, 3, 3), dict(group=2, strides=[3, 2], pads=[0, 1, 1, 0])),
        ("SAME_UPPER", r(4, 3, 3, 3), dict(strides=[2, 2], auto_pad="SAME_UPPER")), ("SAME_LOWER", r(4, 3, 3, 4), dict(strides=[2, 3], auto_pad="SAME_LOWER")),
    ]:
        m = w.shape[1] * attrs.get("group", 1)
        case("convtranspose " + name, node("ConvTranspose", "x w b", "y", **attrs), {"x": r(2, 4, 5, 4)}, {"w": w, "b": r(m)}, opset=11)
    for shape in ([10, 8], [9, 9]):
        case(f"convtranspose output_shape {shape}", node("ConvTranspose", "x w", "y", strides=[2, 2], output_shape=shape), {"x": r(1, 2, 5, 4)}, {"w": r(2, 3, 3, 3)}, opset=11, fixed=True)
    case("convtranspose 1d", node("ConvTranspose", "x w", "y", strides=[3], output_padding=[2]), {"x": r(1, 2, 5)}, {"w": r(2, 2, 4)})
    case("convtranspose 3d", node("ConvTranspose", "x w", "y", strides=[2, 2, 2]), {"x": r(1, 2, 3, 2, 3)}, {"w": r(2, 2, 2, 2, 2)})


def pooling():
    x = distinct(2, 3, 7, 9)
    for op in ("MaxPool", "AveragePool"):
        for name, attrs in [
            ("2x2", dict(kernel_shape=[2, 2], strides=[2, 2])), ("3x2 overlapping", dict(kernel_shape=[3, 2], strides=[1, 2])),
            ("padded", dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])), ("ceil", dict(kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)),
            ("ceil 3", dict(kernel_shape=[3, 3], strides=[2, 3], ceil_mode=1, pads=[1, 0, 1, 1])), ("SAME_UPPER", dict(kernel_shape=[3, 2], auto_pad="SAME_UPPER")),
            ("SAME_LOWER", dict(kernel_shape=[2, 2], auto_pad="SAME_LOWER")), ("VALID", dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="VALID")),
        ]:
            for opset in (11, 18, 22):
                case(f"{op} {name}", node(op, "x", "y", **attrs), {"x": x}, opset=opset)
        case(f"{op} 1d", node(op, "x", "y", kernel_shape=[3], strides=[2]), {"x": distinct(2, 3, 10)})
        case(f"{op} 3d", node(op, "x", "y", kernel_shape=[2, 2, 2], strides=[2, 1, 2]), {"x": distinct(1, 2, 4, 3, 5)})
    case("MaxPool ceil that would begin outside", node("MaxPool", "x", "y", kernel_shape=[1, 1], strides=[3, 2], ceil_mode=1), {"x": x}, fixed=True, opset=22, reference=False)
    case("MaxPool dilated", node("MaxPool", "x", "y", kernel_shape=[2, 3], dilations=[3, 2]), {"x": x})
    case("MaxPool with indices", node("MaxPool", "x", "y i", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 0, 1]), {"x": x}, outputs="y i")
    for pad in (0, 1):
        case(f"AveragePool count_include_pad {pad}", node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=pad), {"x": x})
        case(f"AveragePool ceil count_include_pad {pad}", node("AveragePool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=pad), {"x": distinct(1, 2, 6, 8)}, opset=19)
    case("GlobalAveragePool", node("GlobalAveragePool", "x", "y"), {"x": x})
    case("GlobalMaxPool 3d", node("GlobalMaxPool", "x", "y"), {"x": distinct(1, 2, 3, 2, 3)})


def normalizations():
    x = r(2, 6, 4, 5)
    for opset in (9, 14, 15):
        case("BatchNormalization", node("BatchNormalization", "x s b m v", "y", epsilon=1e-3), {"x": x}, {"s": r(6), "b": r(6), "m": r(6), "v": pos(6)}, opset=opset)
    case("BatchNormalization training_mode 0", node("BatchNormalization", "x s b m v", "y", training_mode=0), {"x": r(3, 6)}, {"s": r(6), "b": r(6), "m": r(6), "v": pos(6)}, opset=15)
    case("InstanceNormalization", node("InstanceNormalization", "x s b", "y"), {"x": x}, {"s": r(6), "b": r(6)}, opset=11)
    case("InstanceNormalization 3d", node("InstanceNormalization", "x s b", "y", epsilon=0.1), {"x": r(1, 2, 3, 4, 2)}, {"s": r(2), "b": r(2)}, opset=22)
    for axis, n in ((-1, (5,)), (2, (4, 5)), (1, (6, 4, 5))):
        case(f"LayerNormalization axis {axis}", node("LayerNormalization", "x s b", "y m v", axis=axis), {"x": x}, {"s": r(*n), "b": r(*n)}, outputs="y m v", opset=17)
    case("LayerNormalization without bias", node("LayerNormalization", "x s", "y"), {"x": r(3, 8)}, {"s": r(8)}, opset=18)
    case("GroupNormalization", node("GroupNormalization", "x s b", "y", num_groups=3), {"x": x}, {"s": r(3), "b": r(3)}, opset=18, reference=True)
    case("GroupNormalization", node("GroupNormalization", "x s b", "y", num_groups=3, epsilon=1e-2), {"x": x}, {"s": r(6), "b": r(6)}, opset=21)
    case("GroupNormalization 3d", node("GroupNormalization", "x s b", "y", num_groups=2), {"x": r(1, 4, 2, 3, 4)}, {"s": r(4), "b": r(4)}, opset=21)
    case("GroupNormalization one group", node("GroupNormalization", "x s b", "y", num_groups=1), {"x": x}, {"s": r(6), "b": r(6)}, opset=22)
    for p in (1, 2):
        case(f"LpNormalization {p}", node("LpNormalization", "x", "y", axis=1, p=p), {"x": x})
    for op in ("Softmax", "LogSoftmax"):
        for opset in (9, 11, 13):
            for axis in (None, 0, 1, 2, -1, -2):
                attrs = {} if axis is None else {"axis": axis}
                if opset < 11 and axis is not None and axis < 0:
                    continue
                case(f"{op} axis {axis}", node(op, "x", "y", **attrs), {"x": r(2, 3, 4, 2)}, opset=opset)


def activations():
    x = r(2, 3, 5) * 2
    for op, attrs, opset in [
        ("Relu", {}, 9), ("Relu", {}, 14), ("LeakyRelu", {}, 9), ("LeakyRelu", {"alpha": 0.3}, 16), ("Elu", {"alpha": 1.7}, 9), ("Elu", {}, 22), ("Selu", {}, 9),
        ("Selu", {"alpha": 1.1, "gamma": 2.0}, 9), ("Celu", {"alpha": 0.7}, 12), ("Gelu", {}, 20), ("Gelu", {"approximate": "tanh"}, 20), ("Erf", {}, 9), ("Sigmoid", {}, 9),
        ("HardSigmoid", {}, 9), ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, 22), ("HardSwish", {}, 14), ("Mish", {}, 18), ("Softplus", {}, 9), ("Softsign", {}, 9),
        ("Tanh", {}, 9), ("ThresholdedRelu", {"alpha": 0.4}, 10), ("Exp", {}, 9), ("Neg", {}, 9), ("Abs", {}, 9), ("Sign", {}, 9), ("Floor", {}, 9), ("Ceil", {}, 9), ("Round", {}, 11),
        ("Sin", {}, 9), ("Cos", {}, 9), ("Tan", {}, 9), ("Atan", {}, 9),
    ]:
        case(f"{op} {attrs}", node(op, "x", "y", **attrs), {"x": x}, opset=opset)
    case("Round halves", node("Round", "x", "y"), {"x": f32(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5)})
    for op in ("Sqrt", "Log", "Reciprocal"):
        case(op, node(op, "x", "y"), {"x": pos(2, 3)}, opset=9)
    for shape in ((3, 1, 1), (1,)):
        case(f"PRelu {shape}", node("PRelu", "x s", "y"), {"x": r(2, 3, 2, 4)}, {"s": pos(*shape)}, opset=9)
    case("Clip attributes", node("Clip", "x", "y", min=-0.5, max=0.75), {"x": x}, opset=9)
    case("Clip only max", node("Clip", "x", "y", max=0.25), {"x": x}, opset=10)
    case("Clip inputs", node("Clip", "x lo hi", "y"), {"x": x}, {"lo": np.float32(-0.5), "hi": np.float32(0.5)}, opset=11)
    case("Clip omitted min", node("Clip", ["x", "", "hi"], "y"), {"x": x}, {"hi": np.float32(0.5)}, opset=13)
    case("Clip integers", node("Clip", "x lo", "y"), {"x": i64(-3, 0, 5)}, {"lo": np.int64(-1)}, opset=13)
    case("IsNaN", node("IsNaN", "x", "y"), {"x": f32(1, np.nan, np.inf)}, opset=13)
    case("IsInf", node("IsInf", "x", "y"), {"x": f32(1, np.nan, np.inf)}, opset=13)
    case("Dropout opset 10 with mask", [node("Dropout", "x", "d m", ratio=0.4), node("Cast", "m", "k", to=1), node("Add", "d k", "y")], {"x": x}, opset=10)
    case("Dropout opset 13", [node("Dropout", ["x", "ratio", "mode"], "d"), node("Neg", "d", "y")], {"x": x}, {"ratio": np.float32(0.5), "mode": np.bool_(False)}, opset=13)
    case("Identity chain", [node("Identity", "x", "a"), node("Identity", "a", "b"), node("Relu", "b", "c"), node("Identity", "c", "y")], {"x": x}, opset=9)
    case("Identity of an input", [node("Identity", "x", "y")], {"x": x}, opset=9)


def arithmetic():
    a, b = r(2, 3, 4), r(3, 1)
    for op in ("Add", "Sub", "Mul", "Div"):
        case(op, node(op, "a b", "y"), {"a": a, "b": b}, opset=9, dyn={"a": [0, 2], "b": []})
        case(op + " integers", node(op, "a b", "y"), {"a": i64(7, -7, 3), "b": i64(2, 2, -2)}, opset=13)
    case("Add of a scalar", node("Add", "a b", "y"), {"a": a}, {"b": np.float32(2)}, opset=9)
    case("Pow", node("Pow", "a b", "y"), {"a": pos(2, 3)}, {"b": np.float32(2.5)}, opset=9)
    case("Pow integer exponent", node("Pow", "a b", "y"), {"a": r(2, 3)}, {"b": np.int64(3)}, opset=12)
    case("Mod integers", node("Mod", "a b", "y"), {"a": i64(7, -7, 7, -7), "b": i64(3, 3, -3, -3)}, opset=10)
    case("Mod fmod", node("Mod", "a b", "y", fmod=1), {"a": f32(7.5, -7.5), "b": f32(2, 2)}, opset=10)
    case("Mod fmod integers", node("Mod", "a b", "y", fmod=1), {"a": i64(7, -7), "b": i64(-3, 3)}, opset=13)
    for op in ("Min", "Max", "Sum", "Mean"):
        case(op, node(op, "a b c", "y"), {"a": a, "b": b, "c": r(1)}, opset=9, dyn={"a": [0, 2]})
    case("Max of one", node("Max", "a", "y"), {"a": a}, opset=13)
    for op in ("Equal", "Less", "Greater"):
        case(op, node(op, "a b", "y"), {"a": np.round(a), "b": np.round(b)}, opset=11, dyn={"a": [0, 2]})
    for op in ("LessOrEqual", "GreaterOrEqual"):
        case(op, node(op, "a b", "y"), {"a": i64(1, 2, 3), "b": i64(2, 2, 2)}, opset=16)
    t = np.array([True, True, False, False])
    for op in ("And", "Or", "Xor"):
        case(op, node(op, "a b", "y"), {"a": t, "b": t[::-1].copy()[[0, 2, 1, 3]]}, opset=9)
    case("Not", node("Not", "a", "y"), {"a": t}, opset=9)
    case("Where", node("Where", "c a b", "y"), {"c": np.array([[True], [False], [True]]), "a": a, "b": r(1)}, opset=9, dyn={"a": [0, 2]})
    for to in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.FLOAT, TensorProto.DOUBLE):
        case(f"Cast float to {to}", node("Cast", "x", "y", to=to), {"x": f32(-1.7, -0.2, 0, 0.9, 2.5)}, opset=13)
    case("Cast bool to float", node("Cast", "x", "y", to=TensorProto.FLOAT), {"x": t}, opset=9)
    case("Cast int64 to int32 and back", [node("Cast", "x", "a", to=TensorProto.INT32), node("Cast", "a", "y", to=TensorProto.INT64)], {"x": i64(5, -5, 2**33 + 1)}, opset=13)
    case("CastLike", node("CastLike", "x k", "y"), {"x": i64(1, 2)}, {"k": f32(0)}, opset=15)
    case("Cast to the same type", [node("Cast", "x", "a", to=1), node("Cast", "a", "b", to=1), node("Relu", "b", "y")], {"x": a}, opset=13)


def linear():
    for sa, sb in (((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4, 5)), ((2, 3, 4), (4,)), ((4,), (4,))):
        case(f"MatMul {sa} {sb}", node("MatMul", "a b", "y"), {"a": r(*sa)}, {"b": r(*sb)}, opset=13, dyn={"a": list(range(len(sa) - 1))})
    for ta, tb in ((0, 0), (1, 0), (0, 1), (1, 1)):
        case(f"Gemm {ta}{tb}", node("Gemm", "a b c", "y", transA=ta, transB=tb, alpha=0.5, beta=2.0), {"a": r(*((4, 3) if ta else (3, 4)))},
             {"b": r(*((5, 4) if tb else (4, 5))), "c": r(5)}, opset=9, dyn={"a": [1 if ta else 0]})
    case("Gemm without bias", node("Gemm", "a b", "y"), {"a": r(3, 4)}, {"b": r(4, 2)}, opset=11, dyn={"a": [0]})
    case("Gemm column bias", node("Gemm", "a b c", "y"), {"a": r(3, 4)}, {"b": r(4, 2), "c": r(3, 1)}, opset=13, fixed=True)
    for eq, *shapes in (("ij,jk->ik", (2, 3), (3, 4)), ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)), ("ij->ji", (2, 3)), ("ii->i", (3, 3)), ("ij->", (2, 3)), ("i,j->ij", (2,), (3,)),
                        ("bhwc,hkc->bhwk", (2, 3, 4, 2), (3, 5, 2)), ("ij,jk", (2, 3), (3, 4)), ("bi,bi,b->b", (2, 3), (2, 3), (2,))):
        names = ["a", "b", "c"][:len(shapes)]
        case("Einsum " + eq, node("Einsum", " ".join(names), "y", equation=eq), dict(zip(names, (r(*s) for s in shapes))), opset=12, fixed=True)


def reductions():
    x = pos(2, 3, 4, 2)
    ops = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
    for op in ops:
        for opset in (11, 13, 18):
            by_input = opset == 18 or op == "ReduceSum" and opset == 13
            for name, axes, keep in (("all", None, 1), ("all, dropped", None, 0), ("spatial", [2, 3], 1), ("first and last, dropped", [0, -1], 0)):
                if by_input:
                    consts = {} if axes is None else {"axes": i64(*axes)}
                    case(f"{op} {name}", node(op, "x axes" if axes else "x", "y", keepdims=keep), {"x": x}, consts, opset=opset)
                else:
                    case(f"{op} {name}", node(op, "x", "y", keepdims=keep, **({} if axes is None else {"axes": axes})), {"x": x}, opset=opset)
        case(f"{op} of nothing", node(op, "x", "y", noop_with_empty_axes=1), {"x": x}, opset=18)
    case("ReduceMax integers", node("ReduceMax", "x", "y", keepdims=0), {"x": i64(3, 9, -2)}, opset=13)
    case("ReduceProd of a shape", [node("Shape", "x", "s"), node("ReduceProd", "s", "n", keepdims=1), node("Reshape", "x n", "y")], {"x": x}, opset=13)
    for op in ("ArgMax", "ArgMin"):
        for attrs in ({}, {"axis": 1, "keepdims": 0}, {"axis": -1, "select_last_index": 1}):
            v = np.round(r(3, 4, 2))
            case(f"{op} {attrs}", node(op, "x", "y", **attrs), {"x": v}, opset=13)
    for attrs in ({}, {"exclusive": 1}, {"reverse": 1}, {"reverse": 1, "exclusive": 1}):
        case(f"CumSum {attrs}", node("CumSum", "x a", "y", **attrs), {"x": r(2, 3, 4)}, {"a": np.int64(1)}, opset=14)
    case("TopK attribute", node("TopK", "x", "y i", k=2), {"x": distinct(2, 3, 5)}, outputs="y i", opset=9)
    case("TopK smallest", node("TopK", "x k", "y i", axis=1, largest=0), {"x": distinct(2, 4, 3)}, {"k": i64(3)}, outputs="y i", opset=11)


def movements():
    x = r(2, 3, 4, 6)
    for name, shape, attrs in (("fixed", (6, 24), {}), ("minus one", (2, -1, 6), {}), ("zeros", (0, 0, -1), {}), ("zero and minus one", (-1, 0, 2, 6), {}), ("flat", (-1,), {})):
        case("Reshape " + name, node("Reshape", "x s", "y", **attrs), {"x": x}, {"s": i64(*shape)}, opset=14, fixed=name == "fixed")
    case("Reshape allowzero", node("Reshape", "x s", "y", allowzero=1), {"x": np.zeros((0, 3), np.float32)}, {"s": i64(3, 0)}, opset=14, fixed=True)
    case("Reshape to a computed shape", [
        node("Shape", "x", "s"), node("Constant", "", "zero", value=numpy_helper.from_array(i64(0))), node("Gather", "s zero", "n"), node("Constant", "", "minus", value_ints=[-1]),
        node("Concat", "n minus", "t", axis=0), node("Reshape", "x t", "y")], {"x": x}, opset=13)
    case("Reshape after arithmetic on shapes", [
        node("Shape", "x", "s", start=2), node("Constant", "", "two", value_int=2), node("Div", "s two", "h"), node("Mul", "h two", "hh"), node("Constant", "", "head", value_ints=[0, 0]),
        node("Concat", "head hh", "t", axis=0), node("Reshape", "x t", "y")], {"x": x}, opset=15, fixed=True)
    for axis in (0, 1, 2, -1, 4):
        case(f"Flatten {axis}", node("Flatten", "x", "y", axis=axis), {"x": x}, opset=11 if axis < 0 else 9)
    for perm in (None, [1, 0, 3, 2], [0, 2, 3, 1]):
        case(f"Transpose {perm}", node("Transpose", "x", "y", **({} if perm is None else {"perm": perm})), {"x": x})
    one = r(2, 1, 3, 1)
    case("Squeeze attribute", node("Squeeze", "x", "y", axes=[1]), {"x": one}, opset=9)
    case("Squeeze attribute negative", node("Squeeze", "x", "y", axes=[-1, 1]), {"x": one}, opset=11, dyn={"x": [0, 2]})
    case("Squeeze all", node("Squeeze", "x", "y"), {"x": one}, opset=11, fixed=True)
    case("Squeeze input", node("Squeeze", "x a", "y"), {"x": one}, {"a": i64(3)}, opset=13, dyn={"x": [0, 2]})
    case("Unsqueeze attribute", node("Unsqueeze", "x", "y", axes=[0, 3]), {"x": r(2, 3)}, opset=9)
    case("Unsqueeze input", node("Unsqueeze", "x a", "y"), {"x": r(2, 3)}, {"a": i64(-1, 1)}, opset=13)
    case("Concat", node("Concat", "a b", "y", axis=1), {"a": r(2, 3, 4), "b": r(2, 1, 4)}, opset=9)
    case("Concat symbolic axis", node("Concat", "a b a", "y", axis=-1), {"a": r(2, 3, 4), "b": r(2, 3, 2)}, opset=11, dyn={"a": [2], "b": [2]})
    case("Split attribute", node("Split", "x", "y z", axis=1, split=[1, 2]), {"x": x}, outputs="y z", opset=11)
    case("Split equal", node("Split", "x", "y z", axis=-1), {"x": x}, outputs="y z", opset=11, dyn={"x": [0]})
    case("Split input", node("Split", "x s", "y z", axis=3), {"x": x}, {"s": i64(4, 2)}, outputs="y z", opset=13, dyn={"x": [0, 2]})
    case("Split num_outputs uneven", node("Split", "x", "y z w", axis=2, num_outputs=3), {"x": r(1, 2, 7)}, outputs="y z w", opset=18)
    for name, s, e, a, t in (
        ("plain", (1, 0), (3, 2), (2, 1), None), ("negative ends", (0, 1), (-1, -2), (2, 3), None), ("to the end", (1,), (2**63 - 1,), (3,), None), ("past the end", (0,), (100,), (2,), None),
        ("steps", (0, 5), (4, 0), (2, 3), (2, -2)), ("flip", (-1,), (-(2**62),), (3,), (-1,)), ("negative start", (-3,), (2**31 - 1,), (3,), (1,)), ("empty", (3,), (1,), (2,), None),
    ):
        consts = {"s": i64(*s), "e": i64(*e), "a": i64(*a)} | ({} if t is None else {"t": i64(*t)})
        case("Slice " + name, node("Slice", " ".join(["x", *consts]), "y"), {"x": x}, consts, opset=13, fixed=name in ("past the end", "empty", "steps", "plain"))
    case("Slice attributes", node("Slice", "x", "y", starts=[1, 0], ends=[3, -1], axes=[2, 3]), {"x": x}, opset=9, dyn={"x": [0, 3]})
    case("Slice attributes without axes", node("Slice", "x", "y", starts=[0, 1], ends=[2, 3]), {"x": x}, opset=9, dyn={"x": [2, 3]})
    for mode in ("constant", "edge", "reflect"):
        case(f"Pad {mode} attribute", node("Pad", "x", "y", mode=mode, pads=[0, 0, 1, 2, 0, 0, 3, 1], **({"value": 1.5} if mode == "constant" else {})), {"x": x}, opset=9)
        case(f"Pad {mode}", node("Pad", "x p", "y", mode=mode), {"x": x}, {"p": i64(0, 0, 1, 2, 0, 0, 3, 1)}, opset=13)
    case("Pad negative", node("Pad", "x p v", "y"), {"x": x}, {"p": i64(0, 0, -1, 2, 0, 0, 1, -3), "v": np.float32(9)}, opset=13)
    case("Pad axes", node("Pad", ["x", "p", "", "a"], "y"), {"x": x}, {"p": i64(1, 2, 3, 4), "a": i64(3, -2)}, opset=18)
    case("Expand", node("Expand", "x s", "y"), {"x": r(3, 1)}, {"s": i64(2, 1, 4)}, opset=13, fixed=True)
    case("Expand to a shape", [node("Shape", "k", "s"), node("Expand", "x s", "y")], {"x": r(3, 1), "k": r(2, 3, 4)}, opset=13, dyn={"k": [0, 2]})
    case("Tile", node("Tile", "x t", "y"), {"x": r(2, 3)}, {"t": i64(2, 3)}, opset=13)
    case("Gather rows", node("Gather", "x i", "y"), {"x": x}, {"i": np.array([[0, -1], [1, 0]], np.int64)}, opset=11, fixed=True)
    case("Gather axis", node("Gather", "x i", "y", axis=2), {"x": x}, {"i": np.int64(1)}, opset=13)
    case("GatherElements", node("GatherElements", "x i", "y", axis=1), {"x": r(2, 4)}, {"i": np.array([[0, 3, -1], [1, 1, 2]], np.int64)}, opset=13, fixed=True)
    case("GatherND", node("GatherND", "x i", "y"), {"x": r(2, 3, 4)}, {"i": np.array([[0, 1], [1, 2], [1, -1]], np.int64)}, opset=13)
    case("GatherND batch", node("GatherND", "x i", "y", batch_dims=1), {"x": r(2, 3, 4)}, {"i": np.array([[[0], [2]], [[1], [1]]], np.int64)}, opset=13, fixed=True)
    for opset, attrs in ((11, {}), (16, {"reduction": "add"}), (18, {"reduction": "max"})):
        case(f"ScatterElements {attrs}", node("ScatterElements", "x i u", "y", axis=1, **attrs), {"x": r(2, 5), "u": r(2, 3)}, {"i": np.array([[1, 3, 1 if attrs else 2], [0, -1, 2]], np.int64)}, opset=opset, fixed=True)
        case(f"ScatterND {attrs}", node("ScatterND", "x i u", "y", **attrs), {"x": r(4, 3), "u": r(3, 3)}, {"i": np.array([[1], [3], [1 if attrs else 0]], np.int64)}, opset=opset, fixed=True)
    case("Scatter", node("Scatter", "x i u", "y", axis=1), {"x": r(2, 5), "u": r(2, 2)}, {"i": np.array([[1, 3], [0, 2]], np.int64)}, opset=10, fixed=True)
    for mode in ("DCR", "CRD"):
        case("DepthToSpace " + mode, node("DepthToSpace", "x", "y", blocksize=2, mode=mode), {"x": r(2, 8, 3, 2)}, opset=13)
    case("SpaceToDepth", node("SpaceToDepth", "x", "y", blocksize=2), {"x": r(2, 3, 4, 6)}, opset=13)
    case("Shape and Size", [node("Shape", "x", "y"), node("Size", "x", "z")], {"x": x}, outputs="y z", opset=13)
    case("Shape part", node("Shape", "x", "y", start=-3, end=-1), {"x": x}, opset=15)
    for form in ({"value_float": 2.5}, {"value_floats": [1.0, 2.0]}, {"value_int": 3}, {"value_ints": [4, 5]}, {"value": numpy_helper.from_array(r(2, 2))}):
        case(f"Constant {next(iter(form))}", [node("Constant", "", "c", **form), node("Cast", "c", "f", to=TensorProto.DOUBLE), node("Add", "f f", "y")], {"x": r(1)}, opset=13)
    case("Constant as output", node("Constant", "", "y", value_ints=[4, 5]), {"x": r(1)}, opset=13)
    case("ConstantOfShape", [node("Shape", "x", "s"), node("ConstantOfShape", "s", "y", value=numpy_helper.from_array(f32(7)))], {"x": x}, opset=9)
    case("ConstantOfShape int", node("ConstantOfShape", "s", "y", value=numpy_helper.from_array(i64(-1))), {"x": r(1)}, {"s": i64(3)}, opset=9)
    case("Range", [node("Shape", "x", "s"), node("Constant", "", "i", value=numpy_helper.from_array(np.int64(2))), node("Gather", "s i", "n"), node("Constant", "", "z", value_int=0),
                   node("Constant", "", "one", value_int=1), node("Range", "z n one", "y")], {"x": x}, opset=13)
    case("Range down", node("Range", "a b c", "y"), {"x": r(1)}, {"a": np.float32(3), "b": np.float32(-1), "c": np.float32(-1.5)}, opset=11)
    case("OneHot", node("OneHot", "i d v", "y", axis=1), {"i": np.array([[0, 2], [-1, 5]], np.int64)}, {"d": np.int64(3), "v": f32(-1, 4)}, opset=11)
    for upper in (0, 1):
        case(f"Trilu {upper}", node("Trilu", "x k", "y", upper=upper), {"x": r(2, 4, 5)}, {"k": np.int64(upper * 2 - 1)}, opset=14)
    case("NonZero", node("NonZero", "x", "y"), {"x": np.array([[1, 0, 2], [0, 0, 3]], np.float32)}, opset=13)
    case("expand as PyTorch writes it", [
        node("Shape", "k", "ks"), node("Constant", "", "minus", value_ints=[-1, 3, 4]), node("Constant", "", "m1", value_int=-1), node("Equal", "minus m1", "is"),
        node("ConstantOfShape", "three", "ones", value=numpy_helper.from_array(i64(1))), node("Where", "is ones minus", "t"), node("Expand", "x t", "y")],
        {"x": r(2, 3, 1), "k": r(1, 2)}, {"three": i64(3)}, opset=13)


def resizing():
    x = r(1, 2, 4, 5)
    for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            case(f"Resize nearest {mode} {nearest}", node("Resize", ["x", "", "s"], "y", mode="nearest", coordinate_transformation_mode=mode, nearest_mode=nearest), {"x": x}, {"s": f32(1, 1, 2, 2.5)}, opset=13)
        for scale in ((1, 1, 2, 2), (1, 1, 1.75, 0.5)):
            case(f"Resize linear {mode} {scale}", node("Resize", ["x", "", "s"], "y", mode="linear", coordinate_transformation_mode=mode), {"x": x}, {"s": f32(*scale)}, opset=18)
        case(f"Resize linear {mode} sizes", node("Resize", ["x", "", "", "z"], "y", mode="linear", coordinate_transformation_mode=mode), {"x": x}, {"z": i64(1, 2, 7, 3)}, opset=13, dyn={"x": [2, 3]})
        case(f"Resize cubic {mode}", node("Resize", ["x", "", "s"], "y", mode="cubic", coordinate_transformation_mode=mode), {"x": x}, {"s": f32(1, 1, 2, 1.5)}, opset=13)
    case("Resize cubic exclude_outside", node("Resize", ["x", "", "s"], "y", mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5), {"x": x}, {"s": f32(1, 1, 2, 2)}, opset=13)
    case("Resize opset 11 with empty roi", node("Resize", "x roi s", "y", mode="linear", coordinate_transformation_mode="align_corners"), {"x": x}, {"roi": np.zeros(0, np.float32), "s": f32(1, 1, 2, 2)}, opset=11)
    case("Resize opset 11 with empty scales", node("Resize", "x roi s z", "y", mode="nearest"), {"x": x}, {"roi": np.zeros(0, np.float32), "s": np.zeros(0, np.float32), "z": i64(1, 2, 8, 10)}, opset=11, dyn={"x": []})
    case("Resize axes", node("Resize", ["x", "", "s"], "y", mode="linear", axes=[3, 2]), {"x": x}, {"s": f32(2, 3)}, opset=18)
    case("Resize trilinear", node("Resize", ["x", "", "s"], "y", mode="linear"), {"x": r(1, 1, 2, 3, 2)}, {"s": f32(1, 1, 2, 2, 2)}, opset=18)
    case("Resize one element", node("Resize", ["x", "", "", "z"], "y", mode="linear", coordinate_transformation_mode="align_corners"), {"x": x}, {"z": i64(1, 2, 1, 1)}, opset=13)
    for mode in ("nearest", "linear"):
        case(f"Resize {mode}", node("Resize", "x s", "y", mode=mode), {"x": x}, {"s": f32(1, 1, 2, 3)}, opset=10)
        case(f"Upsample {mode}", node("Upsample", "x s", "y", mode=mode), {"x": x}, {"s": f32(1, 1, 2, 2)}, opset=9)
    case("Resize to another's size", [
        node("Shape", "x", "a"), node("Shape", "k", "b"), node("Slice", "a z two z", "head"), node("Slice", "b two four z", "tail"), node("Concat", "head tail", "t", axis=0),
        node("Resize", ["x", "", "", "t"], "y", mode="linear")], {"x": x, "k": r(1, 3, 9, 7)}, {"z": i64(0), "two": i64(2), "four": i64(4)}, opset=13, dyn={"x": [2, 3], "k": [2, 3]})
    case("Resize by a computed scale", [
        node("Shape", "x", "s"), node("Slice", "s two four", "hw"), node("Cast", "hw", "f", to=1), node("Mul", "f k", "g"), node("Floor", "g", "h"), node("Cast", "h", "i", to=7),
        node("Slice", "s z two", "head"), node("Concat", "head i", "t", axis=0), node("Resize", ["x", "", "", "t"], "y", mode="nearest")],
        {"x": x}, {"z": i64(0), "two": i64(2), "four": i64(4), "k": f32(2, 1.5)}, opset=13)


def control():
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Add", "v x", "w"), node("ReduceSum", "w", "s", keepdims=0), node("Constant", "", "limit", value_float=40.0), node("Less", "s limit", "more"), node("Identity", "w", "seen")], "body",
        [info("k", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("more", TensorProto.BOOL, []), info("w", TensorProto.FLOAT, None), info("seen", TensorProto.FLOAT, None)])
    case("Loop", node("Loop", "n yes x", "y z", body=body), {"x": pos(2, 3)}, {"n": np.int64(9), "yes": np.bool_(True)}, outputs="y z", opset=13)
    case("Loop without condition", [node("Identity", "x", "x0"), node("Loop", ["n", "", "x0"], "y z", body=body)], {"x": pos(2, 3)}, {"n": np.int64(2)}, outputs="y z", opset=13)
    then = helper.make_graph([node("Constant", "", "one", value_float=1.0), node("Add", "x one", "t")], "then", [], [info("t", TensorProto.FLOAT, None)])
    other = helper.make_graph([node("Dropout", "x", "d"), node("Neg", "d", "e")], "else", [], [info("e", TensorProto.FLOAT, None)])
    for flag in (True, False):
        case(f"If {flag}", node("If", "c", "y", then_branch=then, else_branch=other), {"x": r(2, 3), "c": np.bool_(flag)}, opset=13)
    f = helper.make_function("scrawl.test", "Swish", ["a"], ["b"], [helper.make_node("Mul", ["a", "k"], ["ak"]), helper.make_node("Sigmoid", ["ak"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])],
                             [helper.make_opsetid("", 18)])
    const = helper.make_node("Constant", [], ["k"])
    ref = const.attribute.add()
    ref.name, ref.ref_attr_name, ref.type = "value_float", "beta", onnx.AttributeProto.FLOAT
    f.node.insert(0, const)
    f.attribute.append("beta")
    case("function", [helper.make_node("Swish", ["x"], ["m"], domain="scrawl.test", beta=1.5), helper.make_node("Swish", ["m"], ["y"], domain="scrawl.test", beta=0.5)], {"x": r(2, 3)}, functions=[f])
    case("half precision inside", [  # of numbers that float16 holds exactly
        node("Cast", "x", "h", to=TensorProto.FLOAT16), node("Mul", "h k", "m"), node("Constant", "", "c", value=numpy_helper.from_array(np.float16(0.25))), node("Add", "m c", "a"),
        node("Cast", "a", "y", to=TensorProto.FLOAT)], {"x": f32(1.5, -2, 8)}, {"k": np.array([2, 0.5, -1], np.float16)}, opset=13)


class Block(nn.Module):
    def __init__(self, i, o, norm):
        super().__init__()
        self.conv = nn.Conv2d(i, o, 3, padding=1, bias=norm == "group")
        self.norm = {"batch": lambda: nn.BatchNorm2d(o), "group": lambda: nn.GroupNorm(2, o), "instance": lambda: nn.InstanceNorm2d(o, affine=True)}[norm]()

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class UNet(nn.Module):
    """Two levels; how it is normalised, enlarged and joined differs by export."""

    def __init__(self, norm, up):
        super().__init__()
        self.up_kind = up
        self.a, self.b, self.c = Block(1, 4, norm), Block(4, 8, norm), Block(12 if up != "transposed" else 8, 4, norm)
        self.drop = nn.Dropout(0.2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2) if up == "transposed" else nn.Upsample(scale_factor=2, mode="nearest") if up == "nearest" else None
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.drop(self.b(F.max_pool2d(a, 2)))
        if self.up_kind == "bilinear":
            u = F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)
        elif self.up_kind == "corners":
            u = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=True)
            u = F.pad(u, (0, a.shape[3] - u.shape[3], 0, a.shape[2] - u.shape[2]), mode="replicate")
        else:
            u = self.up(b)
        return self.head(self.c(torch.cat([a, u], 1)))


def exports():
    done = []
    for name, opset, norm, up, sizes in (
        ("unet_batch_bilinear_11", 11, "batch", "bilinear", ((1, 8, 12), (2, 7, 9))), ("unet_group_corners_13", 13, "group", "corners", ((1, 8, 12), (2, 9, 11))),
        ("unet_instance_nearest_17", 17, "instance", "nearest", ((1, 8, 12), (2, 4, 6))), ("unet_group_transposed_18", 18, "group", "transposed", ((1, 8, 12), (3, 6, 4))),
    ):
        net = UNet(norm, up)
        for p in net.parameters():
            nn.init.normal_(p, std=0.5)
        for n, b in net.named_buffers():
            if "running" in n:
                b.copy_(torch.rand_like(b) + 0.5)
        net.eval()
        path = HERE / (name + ".onnx")
        torch.onnx.export(net, torch.zeros(1, 1, 8, 12), str(path), opset_version=opset, input_names=["image"], output_names=["logits"],
                          dynamic_axes={"image": {0: "N", 2: "H", 3: "W"}, "logits": {0: "N", 2: "H", 3: "W"}}, do_constant_folding=True, dynamo=False)
        m = onnx.load(str(path))
        for n in m.graph.node:
            n.ClearField("doc_string")
        path.write_bytes(m.SerializeToString(deterministic=True))
        for n, h, w in sizes:
            x = torch.randn(n, 1, h, w)
            with torch.no_grad():
                want = net.double()(x.double())
            net.float()
            done.append({"name": f"{name} {n}x{h}x{w}", "model": path.name, "inputs": {"image": pack(x.numpy())}, "outputs": {"logits": pack(want.float().numpy())}, "dynamic": {}})
    return done


def write(name, list_):
    buf = io.BytesIO()
    with gzip.GzipFile(fileobj=buf, mode="wb", mtime=0) as z:
        z.write(json.dumps({"cases": list_}, sort_keys=True).encode())
    (HERE / name).write_bytes(buf.getvalue())
    print(name, len(list_), "cases,", len(buf.getvalue()), "bytes")


if __name__ == "__main__":
    for build in (convolutions, pooling, normalizations, activations, arithmetic, linear, reductions, movements, resizing, control):
        build()
    write("operators.json.gz", cases)
    write("exports.json.gz", exports())
