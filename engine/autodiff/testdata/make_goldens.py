#!/usr/bin/env python3
"""Makes the golden gradients that engine/autodiff is tested against.

Every case is a small ONNX model (declared float32), its inputs (float32), a cotangent dy for each output, and the outputs and
gradients that PyTorch computes for the same numbers in float64. While it writes a case the script also runs the ONNX model in ONNX
Runtime and fails if it and the PyTorch function disagree, so that a wrong case cannot become a golden.

    python make_goldens.py [GROUP ...]   # writes *.json.gz next to itself, all or those groups

Needs numpy, onnx, onnxruntime and torch (made with numpy 1.26/2.x, onnx 1.23.2, onnxruntime 1.31.1, torch 2.5.1).
Form of a file: {"group": …, "cases": [{"name", "op", "model", "inputs", "outputs", "dy", "grads", "dynamic"}]}; a tensor is
{"shape", "type", "data"} with little-endian base64 data; "model" is base64 of the ModelProto; "dynamic" names for each input the axes
that the test may turn into symbols.
"""
import base64
import gzip
import io
import json
import math
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
torch.manual_seed(7)
torch.set_num_threads(1)
rng = np.random.default_rng(20240607)
groups: dict[str, list] = {}
group = ""


def r(*shape: int) -> np.ndarray:
    """Random normal float32 numbers."""
    return np.asarray(rng.standard_normal(shape), np.float32)


def pos(*shape):
    """Random numbers in [0.3, 2.3)."""
    return np.asarray(rng.random(shape) * 2 + 0.3, np.float32)


def distinct(*shape):
    """Random numbers no two of which are close, for operators that pick one."""
    n = int(np.prod(shape))
    v = (rng.permutation(n) - n / 2 + 0.25) * 0.1
    return v.reshape(shape).astype(np.float32)


def away(x, *kinks):
    """x moved off the places where the derivative jumps."""
    x = x.copy()
    for k in kinks:
        near = np.abs(x - k) < 0.05
        x[near] = k + 0.1
    return x


def pack(a):
    a = np.asarray(a)
    kind = {"float32": "f4", "float64": "f8", "int64": "i8", "bool": "u1"}[str(a.dtype)]
    data = np.ascontiguousarray(a).astype("<" + kind if kind != "u1" else "u1").tobytes()
    return {"shape": list(a.shape), "type": str(a.dtype), "data": base64.b64encode(data).decode()}


ONNX_TYPE = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


def model_of(name, nodes, inputs, inits, outputs, opset):
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info(k, ONNX_TYPE[str(v.dtype)], v.shape) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, [f"{k}_{d}" for d in range(n)]) for k, n in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in inits.items()],
    )
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="make_goldens")
    onnx.checker.check_model(m)
    return m


def node(op, ins, outs="y", **attrs):
    ins = ins.split() if isinstance(ins, str) else ins
    outs = outs.split() if isinstance(outs, str) else outs
    return helper.make_node(op, ["" if i == "_" else i for i in ins], outs, name="the_" + outs[0], **attrs)


def f(*v):
    return np.array(v, np.float32)


def i(*v):
    return np.array(v, np.int64)


def record(name, op, m, arrays, tensors, outputs, ys, frozen=(), dynamic=None):
    """Differentiates Σ dy·y with PyTorch, checks the forward against ONNX Runtime and keeps the case."""
    dys = {k: np.asarray(r(*y.shape)) for k, y in zip(outputs, ys)}
    loss = sum((torch.from_numpy(dys[k]).double() * y).sum() for k, y in zip(outputs, ys))
    wrt = [k for k in tensors if tensors[k].dtype == torch.float64 and k not in frozen]
    grads = torch.autograd.grad(loss, [tensors[k] for k in wrt], allow_unused=True)
    s = onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
    have = {v.name for v in s.get_inputs()}
    got = s.run(list(outputs), {k: v for k, v in arrays.items() if k in have})
    for k, a, y in zip(outputs, got, ys):
        y = y.detach().numpy()
        assert a.shape == y.shape, (name, k, a.shape, y.shape)
        err = np.abs(a - y).max() / max(1, np.abs(y).max()) if y.size else 0
        assert err < 2e-5, f"{name}: ONNX Runtime and PyTorch differ by {err} in {k}"
    groups.setdefault(group, []).append({
        "name": name, "op": op, "model": base64.b64encode(m.SerializeToString()).decode(),
        "inputs": {k: pack(v) for k, v in arrays.items()},
        "outputs": {k: pack(y.detach().numpy().astype(np.float64)) for k, y in zip(outputs, ys)},
        "dy": {k: pack(v) for k, v in dys.items()},
        "grads": {k: pack((g if g is not None else torch.zeros_like(tensors[k])).numpy()) for k, g in zip(wrt, grads)},
        "dynamic": dynamic or {},
    })


def case(name, op, nodes, fn, outputs="y", inits=None, opset=18, frozen=(), dyn="x", **inputs):
    """One golden. fn takes the inputs as float64 tensors, by name. dyn names the inputs whose axes 2, 3, … may be symbolic."""
    outputs = outputs.split()
    nodes = nodes if isinstance(nodes, list) else [nodes]
    t = {k: torch.from_numpy(np.array(v)) for k, v in inputs.items()}
    t = {k: (v.double().requires_grad_(k not in frozen) if v.dtype == torch.float32 else v) for k, v in t.items()}
    ys = fn(*t.values()) if len(t) == 1 or fn is torch.matmul else fn(**t)
    ys = list(ys) if isinstance(ys, (list, tuple)) else [ys]
    m = model_of(name, nodes, inputs, inits or {}, {k: y.ndim for k, y in zip(outputs, ys)}, opset)
    dynamic = {k: list(range(2, inputs[k].ndim)) for k in dyn.split() if k in inputs and inputs[k].ndim > 2}
    record(name, op, m, inputs, t, outputs, ys, frozen, dynamic)


# ---------------------------------------------------------------------------------------------------------------- convolution
def conv_cases():
    def conv(name, xs, ws, bias=False, stride=1, dilation=1, pads=None, group=1):
        d = len(xs) - 2
        stride = [stride] * d if isinstance(stride, int) else stride
        dilation = [dilation] * d if isinstance(dilation, int) else dilation
        pads = pads or [0] * (2 * d)

        def fn(x, w, b=None):
            p = []
            for k in reversed(range(d)):
                p += [pads[k], pads[d + k]]
            return getattr(F, f"conv{d}d")(F.pad(x, p), w, b, stride, 0, dilation, group)

        ins = {"x": r(*xs), "w": r(*ws)}
        if bias:
            ins["b"] = r(ws[0])
        case("conv " + name, "Conv", node("Conv", list(ins), strides=stride, dilations=dilation, pads=pads, group=group,
                                          kernel_shape=list(ws[2:])), fn, **ins)

    conv("1x1", (2, 3, 4, 5), (4, 3, 1, 1), True)
    conv("1x1 stride 2", (1, 2, 5, 6), (3, 2, 1, 1), stride=2)
    conv("3x3 same", (1, 2, 5, 6), (3, 2, 3, 3), True, pads=[1, 1, 1, 1])
    conv("3x3 same batch 2", (2, 2, 4, 5), (3, 2, 3, 3), True, pads=[1, 1, 1, 1])
    conv("3x3 same one channel", (1, 1, 6, 3), (1, 1, 3, 3), pads=[1, 1, 1, 1])
    conv("3x3 same tiny", (1, 2, 1, 2), (2, 2, 3, 3), pads=[1, 1, 1, 1])
    conv("3x3 same many channels", (1, 9, 4, 4), (10, 9, 3, 3), pads=[1, 1, 1, 1])
    conv("3x3 valid", (2, 2, 5, 6), (3, 2, 3, 3))
    conv("3x3 full", (1, 2, 3, 4), (2, 2, 3, 3), pads=[2, 2, 2, 2])
    conv("3x3 more than full", (1, 1, 3, 3), (1, 1, 3, 3), pads=[3, 3, 3, 3])
    conv("3x3 asymmetric pads", (1, 2, 4, 5), (2, 2, 3, 3), True, pads=[0, 1, 2, 1])
    conv("3x3 stride 2 odd", (2, 2, 5, 7), (3, 2, 3, 3), True, stride=2, pads=[1, 1, 1, 1])
    conv("3x3 stride 2 even remainder", (1, 2, 6, 8), (3, 2, 3, 3), True, stride=2, pads=[1, 1, 1, 1])
    conv("3x3 stride 2 asymmetric", (1, 2, 6, 6), (2, 2, 3, 3), stride=2, pads=[0, 0, 1, 1])
    conv("3x3 stride 2 by 1", (1, 2, 6, 5), (2, 2, 3, 3), stride=[2, 1], pads=[1, 1, 1, 1])
    conv("3x3 stride 3", (1, 2, 7, 8), (2, 2, 3, 3), stride=3)
    conv("2x2 stride 2", (1, 2, 6, 6), (3, 2, 2, 2), stride=2)
    conv("2x2 stride 3 skips input", (1, 1, 7, 8), (2, 1, 2, 2), stride=3)
    conv("3x3 dilation 2", (1, 2, 6, 7), (2, 2, 3, 3), True, dilation=2, pads=[2, 2, 2, 2])
    conv("3x3 dilation 2 stride 2", (1, 2, 8, 7), (2, 2, 3, 3), True, dilation=2, stride=2, pads=[2, 2, 2, 2])
    conv("3x3 dilation 2 by 1 valid", (1, 2, 7, 5), (2, 2, 3, 3), dilation=[2, 1])
    conv("5x5 same", (1, 1, 6, 6), (2, 1, 5, 5), True, pads=[2, 2, 2, 2])
    conv("5x5 stride 2", (1, 1, 7, 8), (2, 1, 5, 5), stride=2, pads=[2, 2, 2, 2])
    conv("1x3", (1, 2, 3, 6), (2, 2, 1, 3), pads=[0, 1, 0, 1])
    conv("3x1 stride 1 by 2", (1, 2, 5, 5), (2, 2, 3, 1), pads=[1, 0, 1, 0], stride=[1, 2])
    conv("groups 2", (2, 4, 4, 5), (6, 2, 3, 3), True, pads=[1, 1, 1, 1], group=2)
    conv("groups 2 stride 2", (2, 4, 5, 4), (6, 2, 3, 3), True, stride=2, pads=[1, 1, 1, 1], group=2)
    conv("depthwise", (2, 3, 4, 5), (3, 1, 3, 3), True, pads=[1, 1, 1, 1], group=3)
    conv("depthwise multiplier 2", (1, 3, 4, 5), (6, 1, 3, 3), pads=[1, 1, 1, 1], group=3)
    conv("depthwise stride 2", (2, 3, 6, 5), (3, 1, 3, 3), stride=2, pads=[1, 1, 1, 1], group=3)
    conv("depthwise 1x1", (2, 3, 4, 5), (3, 1, 1, 1), True, group=3)
    conv("1-D", (2, 3, 9), (4, 3, 3), True, pads=[1, 1])
    conv("1-D stride 2", (2, 3, 8), (4, 3, 4), True, stride=2, pads=[1, 1])
    conv("1-D dilation 3", (1, 2, 11), (2, 2, 3), dilation=3, pads=[3, 3])
    conv("3-D", (1, 2, 3, 4, 3), (2, 2, 3, 3, 3), True, pads=[1] * 6)
    conv("3-D stride 2", (1, 2, 4, 5, 4), (2, 2, 3, 3, 3), True, stride=2, pads=[1] * 6)
    conv("3-D kernel 1x3x3", (2, 2, 2, 4, 3), (3, 2, 1, 3, 3), True, pads=[0, 1, 1, 0, 1, 1])

    # The patch embedding of vision transformers.
    conv("4x4 stride 4", (1, 1, 8, 12), (5, 1, 4, 4), True, stride=4)
    case("conv without kernel_shape", "Conv", node("Conv", "x w", pads=[1, 1, 1, 1]), lambda x, w: F.conv2d(x, w, padding=1), x=r(1, 2, 4, 5), w=r(3, 2, 3, 3))
    for auto, pads in (("SAME_UPPER", (0, 1, 0, 1)), ("SAME_LOWER", (1, 0, 1, 0))):
        case(f"conv {auto}", "Conv", node("Conv", "x w", auto_pad=auto, kernel_shape=[2, 2]), lambda x, w: F.conv2d(F.pad(x, pads), w), x=r(1, 2, 4, 5), w=r(3, 2, 2, 2))
        case(f"conv {auto} stride 2", "Conv", node("Conv", "x w", auto_pad=auto, kernel_shape=[3, 3], strides=[2, 2]),
             lambda x, w: F.conv2d(F.pad(x, pads), w, stride=2), dyn="", x=r(1, 2, 4, 6), w=r(3, 2, 3, 3))
    case("conv VALID", "Conv", node("Conv", "x w", auto_pad="VALID", kernel_shape=[3, 3]), lambda x, w: F.conv2d(x, w), x=r(1, 2, 4, 5), w=r(3, 2, 3, 3))
    case("conv of standardised weights", "Conv", [
        node("ReduceMean", "w a", "m"), node("Sub", "w m", "c"), node("Mul", "c c", "q"), node("ReduceMean", "q a", "v"), node("Add", "v eps", "ve"),
        node("Sqrt", "ve", "sd"), node("Div", "c sd", "ws"), node("Conv", "x ws", "y", pads=[1] * 4)],
        lambda x, w: F.conv2d(x, (w - w.mean((1, 2, 3), True)) / (w.var((1, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt(), padding=1),
        inits={"a": i(1, 2, 3), "eps": np.float32(1e-5)}, x=r(1, 2, 4, 5), w=r(3, 2, 3, 3))

    def convT(name, xs, ws, bias=False, stride=1, dilation=1, pads=None, extra=0, group=1):
        d = len(xs) - 2
        pads = pads or [0] * (2 * d)
        sym = pads[:d]

        def fn(x, w, b=None):
            if pads[d:] == sym:
                return getattr(F, f"conv_transpose{d}d")(x, w, b, stride, sym, extra, group, dilation)
            y = getattr(F, f"conv_transpose{d}d")(x, w, b, stride, 0, extra, group, dilation)
            cut = [slice(None)] * 2 + [slice(pads[k], y.shape[k + 2] - pads[d + k]) for k in range(d)]
            return y[tuple(cut)]

        ins = {"x": r(*xs), "w": r(*ws)}
        if bias:
            ins["b"] = r(ws[1] * group)
        attrs = dict(strides=[stride] * d, dilations=[dilation] * d, pads=pads, group=group, kernel_shape=list(ws[2:]))
        if extra:
            attrs["output_padding"] = [extra] * d
        case("convtranspose " + name, "ConvTranspose", node("ConvTranspose", list(ins), **attrs), fn, **ins)

    convT("2x2 stride 2", (2, 3, 3, 4), (3, 2, 2, 2), True, stride=2)
    convT("3x3 stride 2 output padding", (1, 2, 3, 4), (2, 3, 3, 3), True, stride=2, pads=[1] * 4, extra=1)
    convT("3x3 stride 2", (1, 2, 3, 4), (2, 3, 3, 3), stride=2, pads=[1] * 4)
    convT("4x4 stride 2", (1, 2, 3, 3), (2, 2, 4, 4), True, stride=2, pads=[1] * 4)
    convT("3x3 stride 1", (2, 2, 4, 3), (2, 3, 3, 3), True, pads=[1] * 4)
    convT("3x3 asymmetric pads", (1, 2, 3, 4), (2, 2, 3, 3), stride=2, pads=[0, 1, 1, 0])
    convT("2x2 stride 3 gaps", (1, 2, 3, 2), (2, 2, 2, 2), stride=3)
    convT("dilation 2", (1, 2, 3, 4), (2, 2, 3, 3), True, dilation=2, pads=[1] * 4)
    convT("dilation 2 stride 2", (1, 2, 3, 3), (2, 2, 3, 3), dilation=2, stride=2, pads=[2] * 4, extra=1)
    convT("groups 2", (2, 4, 3, 3), (4, 3, 2, 2), True, stride=2, group=2)
    convT("depthwise", (1, 3, 3, 4), (3, 1, 3, 3), stride=2, pads=[1] * 4, extra=1, group=3)
    convT("1x1", (2, 3, 3, 4), (3, 2, 1, 1), True)
    convT("1-D", (2, 3, 5), (3, 2, 4), True, stride=2, pads=[1, 1])
    convT("3-D", (1, 2, 2, 3, 2), (2, 2, 2, 2, 2), True, stride=2)


# -------------------------------------------------------------------------------------------------------------- normalisation
def norm_cases():
    for name, xs in [("2-D", (2, 3, 4, 3)), ("1-D", (2, 3, 5)), ("3-D", (1, 2, 2, 3, 2)), ("matrix", (4, 3))]:
        c = xs[1]
        case("batchnorm " + name, "BatchNormalization", node("BatchNormalization", "x s b m v", epsilon=1e-5),
             lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b, False, 0, 1e-5),
             frozen=("m", "v"), x=r(*xs), s=pos(c), b=r(c), m=r(c), v=pos(c))
    case("batchnorm opset 14 eps 1e-3", "BatchNormalization", node("BatchNormalization", "x s b m v", epsilon=1e-3, momentum=0.9),
         lambda x, s, b, m, v: F.batch_norm(x, m, v, s, b, False, 0, 1e-3), opset=14,
         frozen=("m", "v"), x=r(2, 2, 3, 3), s=pos(2), b=r(2), m=r(2), v=pos(2))
    for name, xs in [("2-D", (2, 3, 4, 3)), ("1-D", (2, 3, 5)), ("3-D", (1, 2, 2, 3, 2))]:
        c = xs[1]
        case("instancenorm " + name, "InstanceNormalization", node("InstanceNormalization", "x s b", epsilon=1e-5),
             lambda x, s, b: F.instance_norm(x, None, None, s, b, eps=1e-5), x=r(*xs), s=pos(c), b=r(c))
    case("instancenorm plain", "InstanceNormalization", node("InstanceNormalization", "x one zero"),
         lambda x: F.instance_norm(x), inits={"one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32)}, x=r(2, 3, 4, 3))
    case("instancenorm unit scale", "InstanceNormalization", node("InstanceNormalization", "x one b"),
         lambda x, b: F.instance_norm(x, None, None, None, b), inits={"one": np.ones(3, np.float32)}, x=r(2, 3, 4, 3), b=r(3))
    case("layernorm last", "LayerNormalization", node("LayerNormalization", "x s b", axis=-1, epsilon=1e-5),
         lambda x, s, b: F.layer_norm(x, (5,), s, b, 1e-5), opset=17, dyn="", x=r(2, 3, 5), s=pos(5), b=r(5))
    case("layernorm last two", "LayerNormalization", node("LayerNormalization", "x s b", axis=-2, epsilon=1e-6),
         lambda x, s, b: F.layer_norm(x, (3, 4), s, b, 1e-6), dyn="", x=r(2, 2, 3, 4), s=pos(3, 4), b=r(3, 4))
    case("layernorm axis 1 no bias", "LayerNormalization", node("LayerNormalization", "x s", axis=1),
         lambda x, s: F.layer_norm(x, (3, 4), s, None, 1e-5), dyn="", x=r(2, 3, 4), s=pos(3, 4))
    case("layernorm broadcast scale", "LayerNormalization", node("LayerNormalization", "x s b", axis=-2),
         lambda x, s, b: F.layer_norm(x, (3, 4)) * s + b, dyn="", x=r(2, 3, 4), s=pos(4), b=r(3, 1))
    case("layernorm unit scale", "LayerNormalization", node("LayerNormalization", "x one", axis=-1),
         lambda x: F.layer_norm(x, (4,)), inits={"one": np.ones(4, np.float32)}, dyn="", x=r(2, 3, 4))
    # What engine-side rewrites of GroupNorm use: normalise [N,G,-1] over its last axis with unit scale.
    for n in (1, 2):
        case(f"groupnorm exported batch {n}", "InstanceNormalization", [
            node("Reshape", "x to3", "a"), node("InstanceNormalization", "a one zero", "h", epsilon=1e-5),
            node("Shape", "x", "sh"), node("Reshape", "h sh", "g"), node("Mul", "g s", "m"), node("Add", "m b", "y")],
            lambda x, s, b: F.group_norm(x, 2, s.reshape(-1), b.reshape(-1), 1e-5),
            inits={"to3": i(0, 2, -1), "one": f(1, 1), "zero": f(0, 0)}, x=r(n, 4, 3, 5), s=pos(4, 1, 1), b=r(4, 1, 1))


# ---------------------------------------------------------------------------------------------------------------- activations
def act_cases():
    def act(name, op, fn, x=None, opset=18, **attrs):
        case(name, op, node(op, "x", **attrs), fn, opset=opset, x=away(r(2, 3, 4, 3) * 2, 0) if x is None else x)

    act("relu", "Relu", lambda x: F.relu(x))
    act("leakyrelu", "LeakyRelu", lambda x: F.leaky_relu(x, 0.2), alpha=0.2)
    act("leakyrelu default", "LeakyRelu", lambda x: F.leaky_relu(x, 0.01))
    act("elu", "Elu", lambda x: F.elu(x, 0.7), alpha=0.7)
    act("selu", "Selu", lambda x: F.selu(x))
    act("celu", "Celu", lambda x: F.celu(x, 1.3), alpha=1.3)
    act("erf", "Erf", torch.erf)
    act("tanh", "Tanh", torch.tanh)
    act("sigmoid", "Sigmoid", torch.sigmoid)
    act("hardsigmoid", "HardSigmoid", lambda x: torch.clamp(0.2 * x + 0.5, 0, 1), x=away(r(2, 3, 4, 3) * 3, -2.5, 2.5))
    act("hardsigmoid sixth", "HardSigmoid", F.hardsigmoid, x=away(r(2, 3, 4, 3) * 3, -3, 3), alpha=1 / 6, beta=0.5)
    act("hardswish", "HardSwish", F.hardswish, x=away(r(2, 3, 4, 3) * 3, -3, 3))
    act("softplus", "Softplus", F.softplus)
    act("mish", "Mish", F.mish)
    act("sin", "Sin", torch.sin)
    act("cos", "Cos", torch.cos)
    act("exp", "Exp", torch.exp)
    act("log", "Log", torch.log, x=pos(2, 3, 4))
    act("sqrt", "Sqrt", torch.sqrt, x=pos(2, 3, 4))
    act("abs", "Abs", torch.abs)
    act("neg", "Neg", torch.neg)
    act("reciprocal", "Reciprocal", torch.reciprocal, x=pos(2, 3, 4) * np.sign(r(2, 3, 4)))
    act("identity", "Identity", lambda x: x * 1)
    for op, fn in (("Floor", torch.floor), ("Ceil", torch.ceil), ("Round", torch.round), ("Sign", torch.sign)):
        act(op.lower(), op, fn, x=away((r(2, 3, 4) * 2), *np.arange(-8, 8, 0.5)))
    case("prelu scalar", "PRelu", node("PRelu", "x s"), lambda x, s: F.prelu(x, s), x=away(r(2, 3, 4, 3), 0), s=pos(1))
    case("prelu per channel", "PRelu", node("PRelu", "x s"), lambda x, s: F.prelu(x, s.reshape(-1)), x=away(r(2, 3, 4, 3), 0),
         s=pos(3, 1, 1))
    case("gelu from erf", "Erf", [node("Div", "x sqrt2", "a"), node("Erf", "a", "e"), node("Add", "e one", "g"),
                                  node("Mul", "x g", "h"), node("Mul", "h half", "y")], F.gelu,
         inits={"sqrt2": np.float32(math.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)}, x=r(2, 3, 5))
    case("silu", "Sigmoid", [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")], F.silu, x=r(2, 3, 5))
    for axis in (1, -1, 2):
        act(f"softmax axis {axis}", "Softmax", lambda x: F.softmax(x, axis), axis=axis)
        act(f"logsoftmax axis {axis}", "LogSoftmax", lambda x: F.log_softmax(x, axis), axis=axis)
    act("softmax opset 11", "Softmax", lambda x: F.softmax(x, 1), x=r(3, 5), opset=11, axis=1)
    act("softmax opset 11 flattens", "Softmax", lambda x: F.softmax(x.reshape(2, -1), 1).reshape(x.shape), x=r(2, 3, 4), opset=11, axis=1)
    x = away(r(2, 3, 4, 3), -0.5, 0.75)
    case("clip", "Clip", node("Clip", "x lo hi"), lambda x: x.clamp(-0.5, 0.75),
         inits={"lo": np.float32(-0.5), "hi": np.float32(0.75)}, x=x)
    case("clip low", "Clip", node("Clip", "x lo"), lambda x: x.clamp(min=-0.5), inits={"lo": np.float32(-0.5)}, x=x)
    case("clip high", "Clip", node("Clip", "x _ hi"), lambda x: x.clamp(max=0.75), inits={"hi": np.float32(0.75)}, x=x)
    case("cast float to float", "Cast", [node("Cast", "x", "a", to=TensorProto.FLOAT), node("Mul", "a a", "y")], lambda x: x * x, x=r(2, 3, 4))
    case("cast through double", "Cast", [node("Cast", "x", "a", to=TensorProto.DOUBLE), node("Exp", "a", "e"),
                                         node("Cast", "e", "y", to=TensorProto.FLOAT)], torch.exp, x=r(2, 3, 4))


# -------------------------------------------------------------------------------------------------------------------- pooling
def pool_cases():
    def maxpool(name, xs, k, **kw):
        d = len(xs) - 2
        stride, pad, dil, ceil = kw.get("stride", 1), kw.get("pad", 0), kw.get("dilation", 1), kw.get("ceil", False)
        case("maxpool " + name, "MaxPool", node("MaxPool", "x", kernel_shape=[k] * d, strides=[stride] * d, pads=[pad] * 2 * d,
                                                dilations=[dil] * d, ceil_mode=int(ceil)),
             lambda x: getattr(F, f"max_pool{d}d")(x, k, stride, pad, dil, ceil), x=distinct(*xs))

    maxpool("2x2", (2, 3, 4, 6), 2, stride=2)
    maxpool("2x2 remainder", (1, 2, 5, 7), 2, stride=2)
    maxpool("2x2 ceil", (1, 2, 5, 7), 2, stride=2, ceil=True)
    maxpool("3x3 stride 2 pad 1", (2, 2, 6, 7), 3, stride=2, pad=1)
    maxpool("3x3 stride 1", (1, 2, 5, 5), 3, pad=1)
    maxpool("3x3 stride 3", (1, 2, 6, 9), 3, stride=3)
    maxpool("2x2 dilation 2", (1, 2, 5, 6), 2, dilation=2)
    maxpool("1-D", (2, 3, 8), 2, stride=2)
    maxpool("3-D", (1, 2, 4, 4, 4), 2, stride=2)
    for inc in (0, 1):
        for name, k, s, p, xs in [("2x2", 2, 2, 0, (2, 3, 4, 6)), ("3x3 stride 2 pad 1", 3, 2, 1, (2, 2, 6, 7)),
                                  ("3x3 stride 1 pad 1", 3, 1, 1, (1, 2, 4, 5)), ("2x2 stride 1", 2, 1, 0, (1, 2, 4, 4)),
                                  ("2x2 remainder", 2, 2, 0, (1, 2, 5, 7)), ("2x2 stride 3", 2, 3, 0, (1, 2, 7, 8))]:
            case(f"averagepool {name} count_include_pad {inc}", "AveragePool",
                 node("AveragePool", "x", kernel_shape=[k, k], strides=[s, s], pads=[p] * 4, count_include_pad=inc),
                 lambda x: F.avg_pool2d(x, k, s, p, False, bool(inc)), x=r(*xs))
    case("averagepool 1-D", "AveragePool", node("AveragePool", "x", kernel_shape=[3], strides=[2], pads=[1, 1]),
         lambda x: F.avg_pool1d(x, 3, 2, 1, False, False), x=r(2, 3, 7))
    case("averagepool 3-D", "AveragePool", node("AveragePool", "x", kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
         lambda x: F.avg_pool3d(x, 2, 2), x=r(1, 2, 4, 4, 2))
    case("averagepool asymmetric", "AveragePool", node("AveragePool", "x", kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1], count_include_pad=1),
         lambda x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1), x=r(1, 2, 4, 3))
    case("globalaveragepool", "GlobalAveragePool", node("GlobalAveragePool", "x"), lambda x: x.mean((2, 3), True), x=r(2, 3, 4, 5))
    case("globalmaxpool", "GlobalMaxPool", node("GlobalMaxPool", "x"), lambda x: x.amax((2, 3), True), x=distinct(2, 3, 4, 5))
    case("globalaveragepool 3-D", "GlobalAveragePool", node("GlobalAveragePool", "x"), lambda x: x.mean((2, 3, 4), True), x=r(1, 2, 2, 3, 2))


# --------------------------------------------------------------------------------------------------------------------- resize
def resize_cases():
    def resize(name, xs, fn, scales=None, sizes=None, opset=18, **attrs):
        inits = {}
        ins = ["x", "_"]
        if scales:
            inits["scales"] = f(*scales)
            ins += ["scales"]
        else:
            inits["sizes"] = i(*sizes)
            ins += ["_", "sizes"]
        dyn = "x" if scales else ""
        case("resize " + name, "Resize", node("Resize", ins, **attrs), fn, inits=inits, opset=opset, dyn=dyn, x=r(*xs))

    nearest = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def up(**kw):
        return lambda x: F.interpolate(x, **kw)

    resize("nearest x2", (2, 3, 3, 4), up(scale_factor=2, mode="nearest"), scales=(1, 1, 2, 2), **nearest)
    resize("nearest x2 opset 11", (1, 2, 3, 4), up(scale_factor=2, mode="nearest"), scales=(1, 1, 2, 2), opset=13, **nearest)
    resize("nearest x2 half_pixel", (1, 2, 3, 4), up(scale_factor=2, mode="nearest"), scales=(1, 1, 2, 2), mode="nearest")
    resize("nearest x3 by 1", (1, 2, 3, 4), up(scale_factor=(3, 1), mode="nearest"), scales=(1, 1, 3, 1), **nearest)
    resize("nearest sizes", (1, 2, 3, 4), up(size=(6, 8), mode="nearest"), sizes=(1, 2, 6, 8), **nearest)
    resize("nearest sizes uneven", (1, 2, 3, 4), up(size=(5, 7), mode="nearest"), sizes=(1, 2, 5, 7), **nearest)
    resize("nearest x1.5", (1, 2, 4, 6), up(scale_factor=1.5, mode="nearest"), scales=(1, 1, 1.5, 1.5), **nearest)
    resize("nearest x0.5", (1, 2, 4, 6), up(scale_factor=0.5, mode="nearest"), scales=(1, 1, 0.5, 0.5), **nearest)
    resize("nearest 3-D", (1, 2, 2, 3, 2), up(scale_factor=2, mode="nearest"), scales=(1, 1, 2, 2, 2), **nearest)
    resize("nearest 1-D", (1, 2, 5), up(scale_factor=2, mode="nearest"), scales=(1, 1, 2), **nearest)

    lin = dict(mode="linear")
    for m in ("half_pixel", "pytorch_half_pixel"):
        a = dict(lin, coordinate_transformation_mode=m)
        resize(f"linear x2 {m}", (2, 3, 3, 4), up(scale_factor=2, mode="bilinear"), scales=(1, 1, 2, 2), **a)
        resize(f"linear x2 by sizes {m}", (1, 2, 3, 4), up(size=(6, 8), mode="bilinear"), sizes=(1, 2, 6, 8), **a)
        resize(f"linear x1.5 {m}", (1, 2, 4, 6), up(scale_factor=1.5, mode="bilinear"), scales=(1, 1, 1.5, 1.5), **a)
        resize(f"linear x0.5 {m}", (1, 2, 4, 6), up(scale_factor=0.5, mode="bilinear"), scales=(1, 1, 0.5, 0.5), **a)
        resize(f"linear x4 {m}", (1, 2, 2, 3), up(scale_factor=4, mode="bilinear"), scales=(1, 1, 4, 4), **a)
        resize(f"linear sizes uneven {m}", (1, 2, 3, 4), up(size=(5, 9), mode="bilinear"), sizes=(1, 2, 5, 9), **a)
    resize("linear x2 one row", (1, 2, 1, 4), up(scale_factor=2, mode="bilinear"), scales=(1, 1, 2, 2), mode="linear")
    resize("linear x2 one axis", (1, 2, 3, 4), up(scale_factor=(1, 2), mode="bilinear"), scales=(1, 1, 1, 2), mode="linear")
    a = dict(lin, coordinate_transformation_mode="align_corners")
    resize("linear x2 align_corners", (2, 3, 3, 4), up(scale_factor=2, mode="bilinear", align_corners=True), scales=(1, 1, 2, 2), **a)
    resize("linear sizes align_corners", (1, 2, 3, 4), up(size=(7, 9), mode="bilinear", align_corners=True), sizes=(1, 2, 7, 9), **a)
    resize("linear x1.5 align_corners", (1, 2, 4, 6), up(scale_factor=1.5, mode="bilinear", align_corners=True), scales=(1, 1, 1.5, 1.5), **a)
    resize("linear 1-D", (2, 2, 5), up(scale_factor=2, mode="linear"), scales=(1, 1, 2), **lin)
    resize("linear 3-D", (1, 1, 2, 3, 2), up(scale_factor=2, mode="trilinear"), scales=(1, 1, 2, 2, 2), **lin)
    resize("cubic x2", (1, 2, 4, 5), up(scale_factor=2, mode="bicubic"), scales=(1, 1, 2, 2), mode="cubic", cubic_coeff_a=-0.75,
           coordinate_transformation_mode="half_pixel")


# --------------------------------------------------------------------------------------------------------------------- shapes
def shape_cases():
    for axis in (0, 1, -1):
        n = axis % 3
        sh = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
        sh[1][n] = 1
        sh[2][n] = 5
        case(f"concat axis {axis}", "Concat", node("Concat", "x a b", axis=axis), lambda x, a, b: torch.cat([x, a, b], axis), dyn="",
             x=r(*sh[0]), a=r(*sh[1]), b=r(*sh[2]))
    case("concat channels", "Concat", node("Concat", "x a", axis=1), lambda x, a: torch.cat([x, a], 1), dyn="x a", x=r(2, 3, 4, 3), a=r(2, 2, 4, 3))
    case("concat symbolic axis", "Concat", node("Concat", "x a", axis=-1), lambda x, a: torch.cat([x, a], -1), dyn="x a", x=r(2, 3, 4), a=r(2, 3, 5))
    case("split symbolic axis", "Split", node("Split", "x", "y0 y1", axis=2, num_outputs=2), lambda x: torch.split(x, 2, 2), outputs="y0 y1", x=r(2, 3, 4))
    case("concat same value twice", "Concat", node("Concat", "x x", axis=1), lambda x: torch.cat([x, x], 1), x=r(2, 3, 4))
    case("concat single", "Concat", node("Concat", "x", axis=1), lambda x: x * 1, x=r(2, 3, 4))
    case("split sizes", "Split", node("Split", "x sp", "y0 y1 y2", axis=1), lambda x: torch.split(x, [1, 3, 2], 1), outputs="y0 y1 y2",
         inits={"sp": i(1, 3, 2)}, x=r(2, 6, 3))
    case("split equal", "Split", node("Split", "x", "y0 y1", axis=-1, num_outputs=2), lambda x: torch.split(x, 2, -1), outputs="y0 y1", dyn="", x=r(2, 3, 4))
    case("split opset 11", "Split", node("Split", "x", "y0 y1", axis=1, split=[2, 1]), lambda x: torch.split(x, [2, 1], 1), outputs="y0 y1", opset=11, x=r(2, 3, 4))
    case("split one part unused", "Split", [node("Split", "x sp", "a y", axis=1)], lambda x: x[:, 2:], inits={"sp": i(2, 3)}, x=r(2, 5, 3))

    def sl(name, fn, starts, ends, axes=None, steps=None, dyn="", xs=(2, 6, 7), opset=18):
        inits = {"s": i(*starts), "e": i(*ends)}
        ins = ["x", "s", "e"]
        if axes is not None:
            inits["a"] = i(*axes)
            ins.append("a")
        if steps is not None:
            inits["t"] = i(*steps)
            ins += ["_"] if axes is None else []
            ins.append("t")
        case("slice " + name, "Slice", node("Slice", ins), fn, inits=inits, dyn=dyn, opset=opset, x=r(*xs))

    big = 2**62
    sl("one axis", lambda x: x[:, 1:4], [1], [4], [1], dyn="x")
    sl("all axes", lambda x: x[0:1, 1:4, 2:7], [0, 1, 2], [1, 4, 100])
    sl("to the end", lambda x: x[:, :, 2:], [2], [big], [2], dyn="x")
    sl("from the end", lambda x: x[:, :, -3:-1], [-3], [-1], [-1], dyn="x")
    sl("before the start", lambda x: x[:, :, :2], [-100], [2], [2], dyn="x")
    sl("step 2", lambda x: x[:, 1:6:2, ::3], [1, 0], [6, big], [1, 2], [2, 3], dyn="x")
    sl("step 2 axis 0", lambda x: x[::2], [0], [big], [0], [2], xs=(5, 2, 3))
    sl("step 2 even remainder", lambda x: x[:, ::2], [0], [big], [1], [2], xs=(2, 6, 2))
    sl("reversed", lambda x: x.flip(1), [-1], [-big], [1], [-1], dyn="x")
    sl("reversed dynamic axis", lambda x: x.flip(2), [-1], [-big], [2], [-1], dyn="x")
    sl("reversed step 2", lambda x: x.flip(2)[:, :, 1::2], [-2], [-big], [2], [-2], dyn="x")
    sl("reversed bounded", lambda x: x[:, :, 1:6].flip(2)[:, :, ::2], [5], [0], [2], [-2], dyn="x")
    sl("reversed from beyond", lambda x: x.flip(1)[:, ::3], [big], [-big], [1], [-3])
    sl("focus", lambda x: x[:, :, 1::2, ::2], [1, 0], [big, big], [2, 3], [2, 2], dyn="x", xs=(1, 2, 4, 6))
    case("slice at run time", "Slice", [node("Shape", "x", "sh"), node("Gather", "sh two", "h", axis=0), node("Div", "h half", "m"),
                                        node("Slice", "x m h axis2", "y")], lambda x: x[:, :, x.shape[2] // 2:],
         inits={"two": i(2), "half": i(2), "axis2": i(2)}, x=r(2, 3, 7))
    case("slice at run time from the end", "Slice", node("Slice", "x s e ax"), lambda x, s, e: x[:, :, -4:-1],
         inits={"ax": i(2)}, x=r(2, 3, 7), s=i(-4), e=i(-1))
    case("pad at run time", "Pad", node("Pad", "x p"), lambda x, p: F.pad(x, (1, 2)), x=r(2, 3, 4), p=i(0, 0, 1, 0, 0, 2))
    case("expand at run time", "Expand", node("Expand", "x s"), lambda x, s: x.expand(2, 3, 4), dyn="", x=r(3, 1), s=i(2, 3, 4))
    case("tile at run time", "Tile", node("Tile", "x s"), lambda x, s: x.repeat(2, 1, 2), x=r(2, 3, 2), s=i(2, 1, 2))
    case("gather at run time", "Gather", node("Gather", "x s", axis=2), lambda x, s: x[:, :, s], x=r(2, 3, 4), s=i(3, 0, -1, 3))
    case("reshape at run time", "Reshape", node("Reshape", "x s"), lambda x, s: x.reshape(3, -1), x=r(2, 3, 4), s=i(3, -1))
    case("flatten last", "Flatten", node("Flatten", "x", axis=-1), lambda x: x.reshape(6, 4), x=r(2, 3, 4))

    def pad(name, fn, pads, mode="constant", axes=None, xs=(2, 3, 4, 5), value=None, dyn="x"):
        inits = {"p": i(*pads)}
        ins = ["x", "p"]
        if value is not None or axes is not None:
            ins.append("v" if value is not None else "_")
            if value is not None:
                inits["v"] = np.float32(value)
        if axes is not None:
            ins.append("a")
            inits["a"] = i(*axes)
        case("pad " + name, "Pad", node("Pad", ins, mode=mode), fn, inits=inits, dyn=dyn, x=r(*xs))

    pad("constant", lambda x: F.pad(x, (2, 1, 0, 3)), [0, 0, 0, 2, 0, 0, 3, 1])
    pad("constant value", lambda x: F.pad(x, (2, 1), value=1.5), [0, 0, 0, 2, 0, 0, 0, 1], value=1.5)
    pad("constant axes", lambda x: F.pad(x, (2, 1, 0, 3)), [0, 2, 3, 1], axes=[2, -1])
    pad("negative", lambda x: F.pad(x, (-1, 2, 1, -2)), [0, 0, 1, -1, 0, 0, -2, 2])
    pad("reflect", lambda x: F.pad(x, (2, 1, 1, 3), "reflect"), [0, 0, 1, 2, 0, 0, 3, 1], "reflect")
    pad("edge", lambda x: F.pad(x, (2, 1, 0, 3), "replicate"), [0, 0, 0, 2, 0, 0, 3, 1], "edge")
    pad("edge and crop", lambda x: F.pad(x[..., 1:], (0, 2, 0, 0), "replicate"), [0, 0, 0, -1, 0, 0, 0, 2], "edge")
    pad("reflect 1-D", lambda x: F.pad(x, (3, 2), "reflect"), [0, 0, 3, 0, 0, 2], "reflect", xs=(2, 2, 5))
    case("pad opset 11", "Pad", node("Pad", "x p v", mode="constant"), lambda x: F.pad(x, (1, 1, 1, 1)), opset=11,
         inits={"p": i(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(0)}, x=r(1, 2, 3, 3))

    case("reshape", "Reshape", node("Reshape", "x s"), lambda x: x.reshape(6, 4), inits={"s": i(6, -1)}, x=r(2, 3, 4))
    case("reshape zero copies", "Reshape", node("Reshape", "x s"), lambda x: x.reshape(2, 3, -1), inits={"s": i(0, 0, -1)}, x=r(2, 3, 4, 2))
    case("flatten", "Flatten", node("Flatten", "x", axis=1), lambda x: x.flatten(1), x=r(2, 3, 4))
    case("flatten axis 2", "Flatten", node("Flatten", "x", axis=2), lambda x: x.reshape(6, 8), x=r(2, 3, 4, 2))
    case("flatten axis 0", "Flatten", node("Flatten", "x", axis=0), lambda x: x.reshape(1, -1), x=r(2, 3, 4))
    case("squeeze", "Squeeze", node("Squeeze", "x a"), lambda x: x.squeeze(1), inits={"a": i(1)}, x=r(2, 1, 4, 3))
    case("squeeze all", "Squeeze", node("Squeeze", "x"), lambda x: x.squeeze(), dyn="", x=r(2, 1, 4, 1))
    case("squeeze opset 11", "Squeeze", node("Squeeze", "x", axes=[1]), lambda x: x.squeeze(1), opset=11, x=r(2, 1, 4, 3))
    case("unsqueeze", "Unsqueeze", node("Unsqueeze", "x a"), lambda x: x[:, None, :, :, None], inits={"a": i(1, -1)}, x=r(2, 3, 4))
    case("transpose", "Transpose", node("Transpose", "x", perm=[0, 2, 3, 1]), lambda x: x.permute(0, 2, 3, 1), x=r(2, 3, 4, 2))
    case("transpose cycle", "Transpose", node("Transpose", "x", perm=[2, 0, 1]), lambda x: x.permute(2, 0, 1), x=r(2, 3, 4))
    case("transpose default", "Transpose", node("Transpose", "x"), lambda x: x.permute(2, 1, 0), x=r(2, 3, 4))
    case("expand", "Expand", node("Expand", "x s"), lambda x: x.expand(2, 3, 4, 5), inits={"s": i(2, 3, 4, 5)}, dyn="", x=r(3, 1, 5))
    case("expand keeps larger", "Expand", node("Expand", "x s"), lambda x: x.expand(2, 3, 4), inits={"s": i(2, 1, 4)}, dyn="", x=r(3, 1))
    case("expand scalar", "Expand", node("Expand", "x s"), lambda x: x.expand(2, 3), inits={"s": i(2, 3)}, dyn="", x=np.array(0.7, np.float32))
    case("tile", "Tile", node("Tile", "x n"), lambda x: x.repeat(2, 1, 3), inits={"n": i(2, 1, 3)}, x=r(2, 3, 4))
    case("gather axis 0", "Gather", node("Gather", "x i", axis=0), lambda x: x[[2, 0, 2, 4]], inits={"i": i(2, 0, 2, 4)}, x=r(5, 3, 2))
    case("gather axis 1", "Gather", node("Gather", "x i", axis=1), lambda x: x[:, [2, 0, -1]], inits={"i": i(2, 0, -1)}, x=r(2, 4, 3))
    case("gather matrix of indices", "Gather", node("Gather", "x i", axis=1), lambda x: x[:, torch.tensor([[2, 0], [1, 2]])],
         inits={"i": np.array([[2, 0], [1, 2]])}, x=r(2, 4, 3))
    case("gather scalar index", "Gather", node("Gather", "x i", axis=1), lambda x: x[:, 2], inits={"i": np.array(2)}, x=r(2, 4, 3))
    case("gather last axis", "Gather", node("Gather", "x i", axis=-1), lambda x: x[..., [1, 1, 0]], inits={"i": i(1, 1, 0)}, x=r(2, 3, 4))
    idx = rng.integers(0, 4, (2, 3, 3))
    case("gatherelements", "GatherElements", node("GatherElements", "x i", axis=2), lambda x: torch.gather(x, 2, torch.from_numpy(idx)),
         inits={"i": idx}, dyn="", x=r(2, 3, 4))
    cond = rng.random((2, 3, 4)) < 0.5
    case("where", "Where", node("Where", "c x b"), lambda x, b, c: torch.where(c, x, b), dyn="", c=cond, x=r(2, 3, 4), b=r(2, 3, 4))
    case("where broadcast", "Where", node("Where", "c x b"), lambda x, b, c: torch.where(c, x, b), dyn="", c=cond[:1], x=r(2, 1, 4), b=r(1))
    x = r(1, 8, 3, 2)
    case("depthtospace DCR", "DepthToSpace", node("DepthToSpace", "x", blocksize=2, mode="DCR"),
         lambda x: x.reshape(1, 2, 2, 2, 3, 2).permute(0, 3, 4, 1, 5, 2).reshape(1, 2, 6, 4), x=x)
    case("depthtospace CRD", "DepthToSpace", node("DepthToSpace", "x", blocksize=2, mode="CRD"), lambda x: F.pixel_shuffle(x, 2), x=x)
    case("depthtospace CRD batch 2", "DepthToSpace", node("DepthToSpace", "x", blocksize=2, mode="CRD"), lambda x: F.pixel_shuffle(x, 2), x=r(2, 12, 2, 3))
    case("spacetodepth", "SpaceToDepth", node("SpaceToDepth", "x", blocksize=2),
         lambda x: x.reshape(1, 2, 3, 2, 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(1, 8, 3, 2), x=r(1, 2, 6, 4))
    case("constantofshape through shape", "Mul", [node("Shape", "x", "sh"), node("ConstantOfShape", "sh", "k", value=numpy_helper.from_array(f(2.5))),
                                                 node("Mul", "x k", "y")], lambda x: x * 2.5, x=r(2, 3, 4))


# ----------------------------------------------------------------------------------------------------------------- arithmetic
def arith_cases():
    shapes = {"same": ((2, 3, 4, 2), (2, 3, 4, 2)), "scalar": ((2, 3, 4), ()), "one element": ((2, 3, 4), (1,)), "channel": ((2, 3, 4, 2), (3, 1, 1)),
              "batch of maps": ((2, 1, 4, 3), (1, 3, 1, 1)), "rank extension": ((4, 1), (2, 3, 1, 5)), "row": ((2, 3, 4), (4,)),
              "outer": ((3, 1), (1, 4)), "ones kept": ((1, 3, 1), (1, 3, 1))}
    ops = {"Add": lambda x, b: x + b, "Sub": lambda x, b: x - b, "Mul": lambda x, b: x * b, "Div": lambda x, b: x / b}
    for op, fn in ops.items():
        for name, (a, b) in shapes.items():
            dyn = "x b" if name == "same" else "x" if name in ("channel", "row") and len(b) < 3 or name in ("scalar", "one element", "channel") else ""
            case(f"{op.lower()} {name}", op, node(op, "x b"), fn, dyn=dyn, x=r(*a), b=pos(*b) if op == "Div" else r(*b))
    for op, fn in ops.items():
        # With symbols for every size a broadcast shows only when the graph runs.
        case(f"{op.lower()} broadcast at run time", op, node(op, "x b"), fn, dyn="x b", x=r(1, 3, 4, 2), b=pos(2, 3, 1, 2))
    case("mul of a value by itself", "Mul", node("Mul", "x x"), lambda x: x * x, x=r(2, 3, 4))
    case("sub from constant", "Sub", node("Sub", "one x"), lambda x: 1 - x, inits={"one": np.float32(1)}, x=r(2, 3, 4))
    case("div of constant", "Div", node("Div", "one x"), lambda x: 1 / x, inits={"one": np.float32(1)}, x=pos(2, 3, 4))
    case("sum of three", "Sum", node("Sum", "x a b"), lambda x, a, b: x + a + b, dyn="", x=r(2, 3, 4), a=r(3, 1), b=r(1))
    for e in (2.0, 3.0, 0.5, -1.0, 1.0):
        case(f"pow {e:g}", "Pow", node("Pow", "x e"), lambda x: x ** e, inits={"e": np.float32(e)}, x=pos(2, 3, 4))
    case("pow 2 of negatives", "Pow", node("Pow", "x e"), lambda x: x ** 2, inits={"e": f(2)}, x=r(2, 3, 4))
    case("pow 3 of negatives", "Pow", node("Pow", "x e"), lambda x: x ** 3, inits={"e": f(3)}, x=r(2, 3, 4))
    case("pow tensor exponent", "Pow", node("Pow", "x e"), lambda x, e: x ** e, dyn="", x=pos(2, 3, 4), e=pos(3, 1))
    case("pow integer exponent", "Pow", node("Pow", "x e"), lambda x: x ** 2, inits={"e": np.int64(2)}, x=r(2, 3, 4))
    x, b = r(2, 3, 4), r(2, 3, 4)
    for op, fn in (("Min", torch.minimum), ("Max", torch.maximum)):
        case(f"{op.lower()} two", op, node(op, "x b"), lambda x, b: fn(x, b), dyn="x b", x=x, b=b)
        case(f"{op.lower()} broadcast", op, node(op, "x b"), lambda x, b: fn(x, b), dyn="", x=x, b=b[:1, :, :1])
        case(f"{op.lower()} three", op, node(op, "x b c"), lambda x, b, c: fn(fn(x, b), c), dyn="", x=x, b=b, c=r(4))
    eq = x.copy()
    eq[:, 0] = b[:, 0]
    case("max with ties", "Max", node("Max", "x b"), lambda x, b: torch.maximum(x, b), dyn="x b", x=eq, b=b)


# ----------------------------------------------------------------------------------------------------------------- reductions
def reduce_cases():
    fns = {
        "ReduceSum": lambda x, a, k: x.sum(a, k), "ReduceMean": lambda x, a, k: x.mean(a, k), "ReduceMax": lambda x, a, k: x.amax(a, k),
        "ReduceMin": lambda x, a, k: x.amin(a, k), "ReduceL1": lambda x, a, k: x.abs().sum(a, k),
        "ReduceL2": lambda x, a, k: (x * x).sum(a, k).sqrt(), "ReduceSumSquare": lambda x, a, k: (x * x).sum(a, k),
        "ReduceLogSumExp": lambda x, a, k: torch.logsumexp(x, a, k),
    }
    for op, fn in fns.items():
        for axes in ((2, 3), (1,), (-1,), (0, 2, 3), None):
            for keep in (0, 1):
                a = axes if axes is not None else (0, 1, 2, 3)
                ins, inits = (["x", "a"], {"a": i(*axes)}) if axes is not None else (["x"], {})
                x = away(distinct(2, 3, 2, 3), 0) + np.float32(0.01)
                case(f"{op.lower()} axes {axes} keepdims {keep}", op, node(op, ins, keepdims=keep), lambda x: fn(x, a, bool(keep)), inits=inits, x=x)
    case("reducesum of nothing", "ReduceSum", node("ReduceSum", "x", noop_with_empty_axes=1), lambda x: x * 1, x=r(2, 3, 4))
    # Without axes what is done to each element is done all the same, in ONNX Runtime and in newer texts of the operators.
    for op, fn in (("ReduceL1", torch.abs), ("ReduceL2", torch.abs), ("ReduceSumSquare", lambda x: x * x), ("ReduceLogSumExp", lambda x: x * 1)):
        case(f"{op.lower()} of nothing", op, node(op, "x", noop_with_empty_axes=1), fn, x=away(r(2, 3, 4), 0))
    case("reducel2 of a zero row", "ReduceL2", node("ReduceL2", "x a", keepdims=0), lambda x: torch.linalg.vector_norm(x, 2, -1), inits={"a": i(-1)},
         x=np.concatenate([r(1, 4), np.zeros((1, 4), np.float32)]))
    case("reducemean opset 13", "ReduceMean", node("ReduceMean", "x", axes=[2, 3], keepdims=1), lambda x: x.mean((2, 3), True), opset=13, x=r(2, 3, 4, 2))
    case("reducesum opset 11", "ReduceSum", node("ReduceSum", "x", axes=[-1], keepdims=0), lambda x: x.sum(-1), opset=11, x=r(2, 3, 4))
    case("reducemax opset 13 ties", "ReduceMax", node("ReduceMax", "x", axes=[1], keepdims=1), lambda x: x.amax(1, True), opset=13,
         x=np.round(r(2, 5, 3)).astype(np.float32))
    for ex in (0, 1):
        for rev in (0, 1):
            def fn(x):
                y = x.flip(1) if rev else x
                y = y.cumsum(1) - (y if ex else 0)
                return y.flip(1) if rev else y
            case(f"cumsum exclusive {ex} reverse {rev}", "CumSum", node("CumSum", "x a", exclusive=ex, reverse=rev), fn, inits={"a": np.int64(1)}, x=r(2, 4, 3))


# --------------------------------------------------------------------------------------------------------------------- linear
def linear_cases():
    for name, a, b in [("2-D", (3, 4), (4, 5)), ("batched", (2, 3, 4), (2, 4, 5)), ("shared right", (2, 3, 4), (4, 5)),
                       ("shared left", (3, 4), (2, 4, 5)), ("heads", (2, 3, 4, 2), (2, 3, 2, 4)), ("broadcast batch", (2, 1, 3, 4), (1, 3, 4, 2)),
                       ("batch of one", (1, 3, 4), (2, 4, 5)), ("4-D by 3-D", (2, 3, 3, 4), (3, 4, 2)), ("4-D shared right", (2, 2, 3, 4), (4, 2)),
                       ("vector right", (3, 4), (4,)), ("vector left", (4,), (4, 3)), ("dot", (4,), (4,))]:
        case("matmul " + name, "MatMul", node("MatMul", "x b"), torch.matmul, dyn="", x=r(*a), b=r(*b))
    for ta in (0, 1):
        for tb in (0, 1):
            case(f"gemm transA {ta} transB {tb}", "Gemm", node("Gemm", "x b c", transA=ta, transB=tb, alpha=0.5, beta=2.0),
                 lambda x, b, c: 0.5 * (x.T if ta else x) @ (b.T if tb else b) + 2 * c, x=r(*((4, 3) if ta else (3, 4))),
                 b=r(*((5, 4) if tb else (4, 5))), c=r(5))
    for name, cs in [("no bias", None), ("full bias", (3, 5)), ("column bias", (3, 1)), ("scalar bias", ())]:
        ins = {"x": r(3, 4), "b": r(4, 5)}
        if cs is not None:
            ins["c"] = r(*cs)
        case("gemm " + name, "Gemm", node("Gemm", list(ins)), lambda x, b, c=0: x @ b + c, **ins)
    for eq, a, b in [("ij,jk->ik", (3, 4), (4, 2)), ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 3, 4)), ("bchw,bkc->bkhw", (2, 3, 2, 3), (2, 4, 3)),
                     ("nc,nc->n", (3, 4), (3, 4)), ("i,j->ij", (3,), (4,))]:
        case(f"einsum {eq}", "Einsum", node("Einsum", "x b", equation=eq), lambda x, b: torch.einsum(eq, x, b), dyn="", x=r(*a), b=r(*b))
    case("einsum transpose", "Einsum", node("Einsum", "x", equation="ijk->kji"), lambda x: torch.einsum("ijk->kji", x), dyn="", x=r(2, 3, 4))


# ------------------------------------------------------------------------------------------------------------------ selection
def selection_cases():
    global rng
    rng = np.random.default_rng(11)
    for upper in (0, 1):
        case(f"trilu upper {upper}", "Trilu", node("Trilu", "x", upper=upper), torch.triu if upper else torch.tril, x=r(2, 3, 4))
        case(f"trilu upper {upper} k", "Trilu", node("Trilu", "x k", upper=upper), lambda x: (torch.triu if upper else torch.tril)(x, -1),
             inits={"k": np.int64(-1)}, x=r(2, 4, 3))
    case("gathernd", "GatherND", node("GatherND", "x i"), lambda x: torch.stack([x[1, 2], x[0, 1], x[1, 2]]), dyn="",
         inits={"i": np.array([[1, 2], [0, 1], [1, 2]], np.int64)}, x=r(2, 3, 4))
    case("gathernd elements", "GatherND", node("GatherND", "x i"), lambda x: torch.stack([x[1, 2], x[0, 0]]).reshape(2, 1), dyn="",
         inits={"i": np.array([[[1, 2]], [[0, 0]]], np.int64)}, x=r(2, 3))

    def put(x, u, add):
        y = x.clone()
        for k, row in enumerate((2, 0)):
            y[row] = u[k] + (y[row] if add else 0)
        return y
    for mode in ("none", "add"):
        case(f"scatternd {mode}", "ScatterND", node("ScatterND", "x i u", reduction=mode), lambda x, u: put(x, u, mode == "add"), dyn="",
             inits={"i": np.array([[2], [0]], np.int64)}, x=r(3, 4), u=r(2, 4))
        idx = np.array([[0, 2, 1], [2, 0, 0]], np.int64)
        case(f"scatterelements {mode}", "ScatterElements", node("ScatterElements", "x i u", axis=1, reduction=mode),
             lambda x, u: x.scatter_add(1, torch.from_numpy(idx), u) if mode == "add" else x.scatter(1, torch.from_numpy(np.array([[0, 2, 1], [2, 0, 1]])), u), dyn="",
             inits={"i": idx if mode == "add" else np.array([[0, 2, 1], [2, 0, 1]], np.int64)}, x=r(2, 4), u=r(2, 3))
    for axis, largest in ((-1, 1), (1, 0)):
        case(f"topk axis {axis}", "TopK", node("TopK", "x k", "y indices", axis=axis, largest=largest), lambda x: torch.topk(x, 2, axis, bool(largest))[0], dyn="",
             inits={"k": np.array([2], np.int64)}, x=distinct(2, 3, 4))
    for p in (1, 2):
        case(f"lpnormalization {p}", "LpNormalization", node("LpNormalization", "x", axis=1, p=p), lambda x: F.normalize(x, p, 1), x=away(r(2, 3, 4), 0))
    case("reducelogsum", "ReduceLogSum", node("ReduceLogSum", "x axes", keepdims=0), lambda x: x.sum(1).log(), inits={"axes": i(1)}, x=pos(2, 3, 4))
    case("mean of three", "Mean", node("Mean", "x b c"), lambda x, b, c: (x + b + c) / 3, x=r(2, 3, 4), b=r(3, 1), c=r(1))
    case("softsign", "Softsign", node("Softsign", "x"), F.softsign, x=away(r(2, 3, 4), 0))
    case("tan", "Tan", node("Tan", "x"), torch.tan, x=np.clip(r(2, 3, 4), -1.2, 1.2))
    case("atan", "Atan", node("Atan", "x"), torch.atan, x=r(2, 3, 4))
    case("thresholdedrelu", "ThresholdedRelu", node("ThresholdedRelu", "x", alpha=0.5), lambda x: F.threshold(x, 0.5, 0), x=away(r(2, 3, 4), 0.5))


# --------------------------------------------------------------------------------------------------------------------- chains
def chain_cases():
    def unet(mode):
        up = [node("ConvTranspose", "p wt bt", "u", strides=[2, 2])] if mode == "transposed" else \
            [node("Resize", "p _ sc", "u", mode="linear" if mode == "bilinear" else "nearest",
                  coordinate_transformation_mode="half_pixel" if mode == "bilinear" else "asymmetric", nearest_mode="floor")]
        nodes = [node("Conv", "x w1 b1", "c1", pads=[1] * 4), node("BatchNormalization", "c1 s1 o1 m1 v1", "n1"), node("Relu", "n1", "r1"),
                 node("MaxPool", "r1", "q", kernel_shape=[2, 2], strides=[2, 2]), node("Conv", "q w2 b2", "c2", pads=[1] * 4), node("Relu", "c2", "p")] + up + \
                [node("Concat", "r1 u", "k", axis=1), node("Conv", "k w3 b3", "c3", pads=[1] * 4), node("Sigmoid", "c3", "y")]

        def fn(x, w1, b1, s1, o1, m1, v1, w2, b2, w3, b3, wt=None, bt=None):
            r1 = F.relu(F.batch_norm(F.conv2d(x, w1, b1, padding=1), m1, v1, s1, o1))
            p = F.relu(F.conv2d(F.max_pool2d(r1, 2), w2, b2, padding=1))
            u = F.conv_transpose2d(p, wt, bt, 2) if mode == "transposed" else F.interpolate(p, scale_factor=2, mode=mode)
            return torch.sigmoid(F.conv2d(torch.cat([r1, u], 1), w3, b3, padding=1))

        ins = dict(x=r(2, 2, 6, 8), w1=r(3, 2, 3, 3), b1=r(3), s1=pos(3), o1=r(3), m1=r(3), v1=pos(3), w2=r(4, 3, 3, 3) / 3, b2=r(4),
                   w3=r(2, 7, 3, 3) / 5, b3=r(2))
        if mode == "transposed":
            ins |= dict(wt=r(4, 4, 2, 2), bt=r(4))
        case(f"unet {mode}", "Conv", nodes, fn, inits={} if mode == "transposed" else {"sc": f(1, 1, 2, 2)}, frozen=("m1", "v1"), **ins)

    unet("transposed")
    unet("nearest")
    unet("bilinear")

    case("residual block", "Conv", [
        node("Conv", "x w1", "a", pads=[1] * 4), node("Relu", "a", "b"), node("Conv", "b w2", "c", pads=[1] * 4), node("Add", "c x", "d"), node("Relu", "d", "y")],
        lambda x, w1, w2: F.relu(F.conv2d(F.relu(F.conv2d(x, w1, padding=1)), w2, padding=1) + x), x=r(2, 3, 5, 4), w1=r(3, 3, 3, 3) / 3, w2=r(3, 3, 3, 3) / 3)
    case("strided residual block", "Conv", [
        node("Conv", "x w1", "a", pads=[1] * 4, strides=[2, 2]), node("Relu", "a", "b"), node("Conv", "b w2", "c", pads=[1] * 4),
        node("Conv", "x w3", "s", strides=[2, 2]), node("Add", "c s", "d"), node("Relu", "d", "y")],
        lambda x, w1, w2, w3: F.relu(F.conv2d(F.relu(F.conv2d(x, w1, stride=2, padding=1)), w2, padding=1) + F.conv2d(x, w3, stride=2)),
        x=r(1, 3, 6, 7), w1=r(4, 3, 3, 3) / 3, w2=r(4, 4, 3, 3) / 3, w3=r(4, 3, 1, 1))
    case("squeeze and excitation", "GlobalAveragePool", [
        node("GlobalAveragePool", "x", "g"), node("Conv", "g w1 b1", "a"), node("Relu", "a", "b"), node("Conv", "b w2 b2", "c"), node("Sigmoid", "c", "s"), node("Mul", "x s", "y")],
        lambda x, w1, b1, w2, b2: x * torch.sigmoid(F.conv2d(F.relu(F.conv2d(x.mean((2, 3), True), w1, b1)), w2, b2)),
        x=r(2, 4, 3, 5), w1=r(2, 4, 1, 1), b1=r(2), w2=r(4, 2, 1, 1), b2=r(4))
    h = 2
    case("attention block", "MatMul", [
        node("LayerNormalization", "x s1 o1", "n1", axis=-1),
        *[nd for k in "qkv" for nd in (node("MatMul", f"n1 w{k}", f"{k}0"), node("Reshape", f"{k}0 heads", f"{k}1"),
                                       node("Transpose", f"{k}1", f"{k}2", perm=[0, 2, 3, 1] if k == "k" else [0, 2, 1, 3]))],
        node("MatMul", "q2 k2", "a0"), node("Mul", "a0 scale", "a1"), node("Softmax", "a1", "a2", axis=-1), node("MatMul", "a2 v2", "a3"),
        node("Transpose", "a3", "a4", perm=[0, 2, 1, 3]), node("Reshape", "a4 joined", "a5"), node("MatMul", "a5 wo", "a6"), node("Add", "a6 x", "h1"),
        node("LayerNormalization", "h1 s2 o2", "n2", axis=-1), node("MatMul", "n2 w1", "m0"), node("Add", "m0 b1", "m1"),
        node("Div", "m1 sqrt2", "e0"), node("Erf", "e0", "e1"), node("Add", "e1 one", "e2"), node("Mul", "m1 e2", "e3"), node("Mul", "e3 half", "e4"),
        node("MatMul", "e4 w2", "m2"), node("Add", "m2 h1", "y")],
        lambda x, s1, o1, wq, wk, wv, wo, s2, o2, w1, b1, w2: (lambda n1: (lambda q, k, v: (lambda h1: h1 + F.gelu(F.layer_norm(h1, (4,), s2, o2) @ w1 + b1) @ w2)(
            x + (F.softmax(q @ k.transpose(-1, -2) / math.sqrt(2), -1) @ v).transpose(1, 2).reshape(2, 5, 4) @ wo))(
            *[(n1 @ w).reshape(2, 5, h, 2).transpose(1, 2) for w in (wq, wk, wv)]))(F.layer_norm(x, (4,), s1, o1)),
        inits={"heads": i(0, 0, 2, 2), "joined": i(0, 0, -1), "scale": np.float32(1 / math.sqrt(2)), "sqrt2": np.float32(math.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)},
        dyn="", x=r(2, 5, 4), s1=pos(4), o1=r(4), wq=r(4, 4), wk=r(4, 4), wv=r(4, 4), wo=r(4, 4), s2=pos(4), o2=r(4), w1=r(4, 6), b1=r(6), w2=r(6, 4))
    case("dropout and constants", "Relu", [
        node("Constant", "", "k", value=numpy_helper.from_array(f(0.5))), node("Identity", "x", "i1"),
        node("Dropout", "i1", "d"), node("Mul", "d k", "m"), node("Identity", "m", "i2"), node("Relu", "i2", "y")], lambda x: F.relu(x * 0.5), opset=13, x=away(r(2, 3, 4), 0))
    case("value used many times", "Add", [node("Relu", "x", "a"), node("Add", "a x", "b"), node("Mul", "b a", "c"), node("Add", "c b", "y")],
         lambda x: (F.relu(x) + x) * F.relu(x) + F.relu(x) + x, x=away(r(2, 3, 4), 0))
    case("two outputs, one inside the other", "Mul", [node("Exp", "x", "y0"), node("Mul", "y0 x", "y1")], lambda x: (x.exp(), x.exp() * x), outputs="y0 y1", x=r(2, 3, 4))
    case("soft dice and cross-entropy", "ReduceMean", [
        node("LogSoftmax", "x", "l", axis=1), node("Mul", "l t", "lt"), node("ReduceSum", "lt c1", "ce", keepdims=0), node("ReduceMean", "ce", "m", keepdims=0), node("Neg", "m", "y0"),
        node("Softmax", "x", "p", axis=1), node("Mul", "p t", "pt"), node("ReduceSum", "pt hw", "inter", keepdims=0), node("Add", "p t", "s"), node("ReduceSum", "s hw", "both", keepdims=0),
        node("Div", "inter both", "d"), node("ReduceMean", "d", "y1", keepdims=0)],
        lambda x, t: (-(F.log_softmax(x, 1) * t).sum(1).mean(), ((F.softmax(x, 1) * t).sum((2, 3)) / (F.softmax(x, 1) + t).sum((2, 3))).mean()),
        outputs="y0 y1", inits={"c1": i(1), "hw": i(2, 3)}, frozen=("t",), dyn="x t", x=r(2, 3, 4, 3), t=np.eye(3, dtype=np.float32)[rng.integers(0, 3, (2, 4, 3))].transpose(0, 3, 1, 2).copy())


# -------------------------------------------------------------------------------------------------------- exported by PyTorch
class Block(nn.Module):
    def __init__(self, a, b, norm):
        super().__init__()
        self.conv = nn.Conv2d(a, b, 3, padding=1, bias=norm != "batch")
        self.norm = nn.BatchNorm2d(b) if norm == "batch" else nn.GroupNorm(2, b) if norm == "group" else nn.InstanceNorm2d(b, affine=True)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class UNet(nn.Module):
    def __init__(self, norm, up, c=4):
        super().__init__()
        self.up = up
        self.e1, self.e2 = Block(2, c, norm), Block(c, 2 * c, norm)
        self.t = nn.ConvTranspose2d(2 * c, 2 * c, 2, 2) if up == "transposed" else nn.Identity()
        self.d1 = Block(3 * c, c, norm)
        self.head = nn.Conv2d(c, 1, 1)

    def forward(self, x):
        a = self.e1(x)
        b = self.e2(F.max_pool2d(a, 2))
        if self.up == "transposed":
            b = self.t(b)
        elif self.up == "size":
            b = F.interpolate(b, size=a.shape[-2:], mode="bilinear", align_corners=False)
        elif self.up == "corners":
            b = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=True)
        else:
            b = F.interpolate(b, scale_factor=2, mode=self.up)
        return self.head(self.d1(torch.cat([a, b], 1)))


class DeepLab(nn.Module):
    """Dilated convolutions, pooling of the whole image and enlargement to the input's size."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        self.a1, self.a2 = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 3, 3, padding=2, dilation=2)
        self.sep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.pool = nn.Conv2d(4, 3, 1)
        self.head = nn.Conv2d(13, 2, 1)

    def forward(self, x):
        h = F.hardswish(self.stem(x))
        p = F.interpolate(F.relu(self.pool(F.adaptive_avg_pool2d(h, 1))), size=h.shape[-2:], mode="bilinear", align_corners=False)
        y = self.head(torch.cat([F.silu(self.a1(h)), F.elu(self.a2(h)), self.sep(h), p], 1))
        return F.log_softmax(F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False), 1)


class UNETR(nn.Module):
    """Patches, one transformer block with attention between them, and a pixel-shuffle decoder."""

    def __init__(self, d=8, heads=2):
        super().__init__()
        self.heads = heads
        self.embed = nn.Conv2d(1, d, 4, 4)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.m1, self.m2 = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.up = nn.Conv2d(d, 16, 1)
        self.act = nn.PReLU(16)

    def forward(self, x):
        e = self.embed(x)
        n, d, h, w = e.shape
        t = e.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.n1(t)).reshape(n, h * w, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        a = F.softmax(q @ k.transpose(-2, -1) / math.sqrt(d // self.heads), -1) @ v
        t = t + self.out(a.transpose(1, 2).reshape(n, h * w, d))
        t = t + self.m2(F.gelu(self.m1(self.n2(t))))
        return F.pixel_shuffle(self.act(self.up(t.transpose(1, 2).reshape(n, d, h, w))), 4)


class Odd(nn.Module):
    """Sizes that do not halve evenly: padding computed at run time, cropped skip connections, reflection."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3, 2, 1)
        self.t, self.c = nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=1), nn.Conv2d(6, 1, 3, padding=1, padding_mode="replicate")

    def forward(self, x):
        a = F.leaky_relu(self.a(F.pad(x, (1, 1, 1, 1), "reflect")), 0.1)
        u = torch.tanh(self.t(F.avg_pool2d(self.b(a), 3, 1, 1)))
        u = u[:, :, : a.shape[2], : a.shape[3]]
        return self.c(torch.cat([a, u], 1))


class Swin(nn.Module):
    """Shifted windows, a table of relative position biases and PyTorch's own attention."""

    def __init__(self, d=4):
        super().__init__()
        self.embed, self.norm = nn.Conv2d(1, d, 2, 2), nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.table = nn.Parameter(torch.randn(7, 1))
        self.register_buffer("index", torch.randint(0, 7, (4, 4)))
        self.all = nn.Linear(d, 3 * d)
        self.up = nn.ConvTranspose2d(d, 2, 2, 2)

    def forward(self, x):
        e = self.embed(x).permute(0, 2, 3, 1)
        n, h, w, d = e.shape
        t = torch.roll(self.norm(e), (-1, -1), (1, 2)).reshape(n, h // 2, 2, w // 2, 2, d).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, d)
        q, k, v = self.qkv(t).chunk(3, -1)
        bias = self.table[self.index.flatten()].reshape(4, 4)
        t = F.softmax(q @ k.transpose(1, 2) / 2 + bias, -1) @ v
        t = t.reshape(n, h // 2, w // 2, 2, 2, d).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, d)
        t = (e + torch.roll(t, (1, 1), (1, 2))).reshape(n, h * w, d)
        q, k, v = (a.reshape(n, h * w, 2, d // 2).transpose(1, 2) for a in self.all(t).chunk(3, -1))
        t = F.normalize(t + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, d), dim=-1)
        return self.up(t.reshape(n, h, w, d).permute(0, 3, 1, 2))


def export_cases():
    def export(name, net, opset, sizes, channels, fold=True):
        torch.manual_seed(len(name) + opset)
        net.double()
        for p in net.parameters():
            p.data = (p.data + 0.2 * torch.randn_like(p)).float().double()  # exact in float32, and no two alike
        for k, b in net.named_buffers():
            if b.is_floating_point():
                b.data = (torch.rand_like(b) + 0.5).float().double()
        net.eval()
        buf = io.BytesIO()
        x0 = torch.randn(1, channels, *sizes[0])
        torch.onnx.export(net.float(), x0, buf, opset_version=opset, input_names=["x"], output_names=["y"], dynamo=False,
                          dynamic_axes={"x": {0: "N", 2: "H", 3: "W"}}, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=fold)
        net.double()
        m = onnx.load_from_string(buf.getvalue())
        for n in m.graph.node:
            n.doc_string = ""
        params = dict(net.named_parameters())
        # The exporter renames, reshapes and transposes parameters: find each initializer's parameter by its numbers.
        weights = {}
        for init in m.graph.initializer:
            a = numpy_helper.to_array(init)
            if a.dtype != np.float32 or a.size < 1:
                continue
            for pname, p in params.items():
                v = p.detach().numpy().astype(np.float32)
                if v.size != a.size:
                    continue
                if np.array_equal(v.ravel(), a.ravel()):
                    weights[init.name] = (pname, a.shape, False)
                elif v.ndim == 2 and a.ndim == 2 and np.array_equal(v.T, a):
                    weights[init.name] = (pname, a.shape, True)
        missing = set(params) - {w[0] for w in weights.values()}
        assert not missing, f"{name}: parameters without an initializer: {missing}"
        for k, (h, w) in enumerate(sizes):
            x = r(1 + k, channels, h, w)
            tensors = {"x": torch.from_numpy(x).double().requires_grad_()}
            y = net(tensors["x"])
            record_export(f"{name} opset {opset}, {1 + k}x{h}x{w}", m if k == 0 else None, f"{name} opset {opset}", x, tensors["x"], y, params, weights, m)

    def record_export(name, model, key, x, xt, y, params, weights, m):
        dy = r(*y.shape)
        names = list(params)
        grads = torch.autograd.grad((torch.from_numpy(dy).double() * y).sum(), [xt] + [params[k] for k in names])
        by = dict(zip(names, grads[1:]))
        s = onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
        got = s.run(["y"], {"x": x})[0]
        ref = y.detach().numpy()
        assert np.abs(got - ref).max() < 1e-4 * max(1, np.abs(ref).max()), f"{name}: ONNX Runtime and PyTorch differ"
        out = {"x": pack(grads[0].numpy())}
        for init, (p, shape, transposed) in weights.items():
            g = by[p].numpy()
            out[init] = pack((g.T if transposed else g).reshape(shape))
        groups.setdefault(group, []).append({
            "name": name, "op": "model", "model": base64.b64encode(model.SerializeToString()).decode() if model is not None else "", "shared": key,
            "inputs": {"x": pack(x)}, "outputs": {"y": pack(ref.astype(np.float64))}, "dy": {"y": pack(dy)}, "grads": out, "dynamic": {}})

    sizes = [(8, 12), (6, 10)]
    for opset in (11, 17, 18):
        export("unet batchnorm transposed", UNet("batch", "transposed"), opset, sizes, 2)
        export("unet groupnorm nearest", UNet("group", "nearest"), opset, sizes, 2)
        export("unet groupnorm bilinear", UNet("group", "bilinear"), opset, sizes, 2)
    export("unet batchnorm bilinear to size", UNet("batch", "size"), 17, [(8, 12), (7, 9)], 2)
    export("unet instancenorm align_corners", UNet("instance", "corners"), 17, sizes, 2)
    export("deeplab", DeepLab(), 11, [(9, 12), (8, 7)], 1)
    export("deeplab", DeepLab(), 18, [(9, 12), (8, 7)], 1)
    export("unetr", UNETR(), 14, [(8, 12), (12, 8)], 1)
    export("unetr", UNETR(), 17, [(8, 12), (12, 8)], 1)
    export("odd sizes", Odd(), 17, [(7, 8), (9, 5)], 1)
    export("swin", Swin(), 17, [(8, 12), (4, 8)], 1, fold=False)


def main():
    global group
    for group, make in [("convolution", conv_cases), ("normalization", norm_cases), ("activation", act_cases), ("pooling", pool_cases),
                        ("resize", resize_cases), ("shape", shape_cases), ("arithmetic", arith_cases), ("reduction", reduce_cases),
                        ("linear", linear_cases), ("chain", chain_cases), ("export", export_cases), ("selection", selection_cases)]:
        if not sys.argv[1:] or group in sys.argv[1:]:
            make()
    total = 0
    for name, cases in groups.items():
        path = HERE / f"{name}.json.gz"
        text = json.dumps({"group": name, "cases": cases}, separators=(",", ":")).encode()
        path.write_bytes(gzip.compress(text, 9, mtime=0))
        total += path.stat().st_size
        print(f"{name}: {len(cases)} cases, {path.stat().st_size} bytes")
    print("total", total)


if __name__ == "__main__":
    main()
