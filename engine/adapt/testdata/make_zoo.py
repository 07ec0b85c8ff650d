#!/usr/bin/env python3
"""Makes zoo/*.json.gz: exported networks of many families with the gradients and ten steps of the method that PyTorch computes.

    python make_zoo.py [-o DIR] [NAME ...]     # all networks, or those whose name contains one of the words

Needs torch, onnx, onnxruntime, onnxscript, numpy, segmentation_models_pytorch, timm and monai (made with torch 2.15, onnx 1.23.2, onnxruntime
1.32, segmentation_models_pytorch 0.6, timm 1.0.31, monai 1.6.1).

A file holds no weights. They come from one formula, here and in zoo_test.go: element i of the tensor called n is

    centre + amplitude · (2·u − 1),   u = splitmix64(fnv1a64(n) + i) / 2⁶⁴ (its 53 high bits),

rounded to float32; the file says for each initializer of the exported graph from which named tensor it comes, with which centre and
amplitude, and by which permutation of its axes. Gradients and moves are kept as their norm and eight products with random signs: bit
j of splitmix64(fnv1a64("signs/" + initializer) + i) is the sign of element i in the j-th. Gradients are computed in float64, the steps of networks of more
than half a million weights in float32 with the weights kept in float64; the seed of the input is the first with which PyTorch's own float32 gradients agree with that, since where a ReLU's input or the difference of two candidates of a
maximum is nearly 0 a gradient in float32 means little. Where even then PyTorch's float32 gradient of a tensor is more than 2e-5 away, as that of a
convolution's scale before a normalisation, which hardly matters, the file says so under "float32".

Exporters fold normalisations into convolutions. The gradient recorded for a folded weight is that of the network with the
normalisation folded in the same way in PyTorch; which it is is found by comparing values. While it writes a case the script runs the
exported graph, with the formula's weights, in ONNX Runtime, and fails if it and PyTorch disagree.
"""
import argparse
import base64
import copy
import gzip
import itertools
import json
import logging
import pathlib
import sys
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
from onnx import numpy_helper

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
SIGNS, STEPS, LAMBDA, ALPHA = 8, 10, 2.0, 0.99
M = (1 << 64) - 1


# ---------------------------------------------------------------- the formula

def fnv1a64(name):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & M
    return h


def splitmix64(name, n):
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a64(name)) + np.arange(n, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(name, *shape):
    n = int(np.prod(shape))
    return ((splitmix64(name, n) >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def formula(name, shape, centre, amplitude):
    return (centre + amplitude * (2 * uniform(name, *shape) - 1)).astype(np.float32)


def described(name, v):
    """Norm and products with random signs."""
    v = np.asarray(v, np.float64).reshape(-1)
    bits = splitmix64("signs/" + name, v.size)
    p = [float(np.dot(v, ((bits >> np.uint64(j)) & np.uint64(1)).astype(np.float64) * 2 - 1)) for j in range(SIGNS)]
    return [float(np.linalg.norm(v))] + p


def pack(values):
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


# ---------------------------------------------------------------- networks

class HRFuse(nn.Module):
    """Two exchange units of HRNet (Sun et al. 2019) at three resolutions, and its segmentation head."""

    def __init__(self, classes=2, w=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        self.widths = [w, 2 * w, 4 * w]
        self.transition = nn.ModuleList([nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                                         for a, b in zip(self.widths, self.widths[1:])])
        self.units = nn.ModuleList([self.unit() for _ in range(2)])
        self.head = nn.Sequential(nn.Conv2d(sum(self.widths), sum(self.widths), 1), nn.BatchNorm2d(sum(self.widths)), nn.ReLU(),
                                  nn.Conv2d(sum(self.widths), classes, 1))

    def unit(self):
        m = nn.ModuleDict()
        for j, a in enumerate(self.widths):
            for i, b in enumerate(self.widths):
                if j > i:
                    m[f"{j}{i}"] = nn.Sequential(nn.Conv2d(a, b, 1, bias=False), nn.BatchNorm2d(b))
                elif j < i:
                    layers, c = [], a
                    for k in range(i - j):
                        last = k == i - j - 1
                        layers += [nn.Conv2d(c, b if last else c, 3, 2, 1, bias=False), nn.BatchNorm2d(b if last else c)] + ([] if last else [nn.ReLU()])
                    m[f"{j}{i}"] = nn.Sequential(*layers)
        return m

    def forward(self, x):
        xs = [self.stem(x)]
        for t in self.transition:
            xs.append(t(xs[-1]))
        for m in self.units:
            ys = []
            for i in range(3):
                y = xs[i]
                for j in range(3):
                    if j == i:
                        continue
                    z = m[f"{j}{i}"](xs[j])
                    if j > i:
                        z = F.interpolate(z, size=xs[i].shape[-2:], mode="bilinear", align_corners=False)
                    y = y + z
                ys.append(F.relu(y))
            xs = ys
        size = xs[0].shape[-2:]
        return self.head(torch.cat([xs[0]] + [F.interpolate(v, size=size, mode="bilinear", align_corners=True) for v in xs[1:]], 1))


class ViTSeg(nn.Module):
    """A plain Vision Transformer with a convolutional decoder."""

    def __init__(self, size=64, classes=2):
        super().__init__()
        import timm
        self.vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=size, patch_size=8, in_chans=1, num_classes=0, depth=4)
        self.grid = size // 8
        self.up = nn.Sequential(nn.ConvTranspose2d(192, 64, 2, 2), nn.GroupNorm(8, 64), nn.GELU(), nn.Upsample(scale_factor=2, mode="bilinear"),
                                nn.Conv2d(64, 32, 3, 1, 1), nn.GroupNorm(8, 32), nn.GELU(), nn.ConvTranspose2d(32, 16, 2, 2), nn.SiLU(), nn.Conv2d(16, classes, 1))

    def forward(self, x):
        t = self.vit.forward_features(x)[:, 1:]
        return self.up(t.transpose(1, 2).reshape(x.shape[0], 192, self.grid, self.grid))


class MeshNet(nn.Module):
    """brainchop's form (Fedorov et al. 2017): dilated 3×3×3 convolutions at full resolution."""

    def __init__(self, channels, classes, dilations, act=nn.ELU):
        super().__init__()
        layers, c = [], 1
        for d in dilations:
            layers += [nn.Conv3d(c, channels, 3, padding=d, dilation=d), act()]
            c = channels
        self.body = nn.Sequential(*layers, nn.Conv3d(c, classes, 1))

    def forward(self, x):
        return self.body(x)


class FromONNX(nn.Module):
    """A network read from one of brainchop's files, which hold Conv, Relu and Elu only."""

    def __init__(self, path):
        super().__init__()
        g = onnx.load(path).graph
        values = {t.name: numpy_helper.to_array(t) for t in g.initializer}
        layers = []
        for n in g.node:
            a = {x.name: onnx.helper.get_attribute_value(x) for x in n.attribute}
            if n.op_type == "Conv":
                w = values[n.input[1]]
                c = nn.Conv3d(w.shape[1], w.shape[0], w.shape[2:], padding=a.get("pads", [0] * 6)[0], dilation=a.get("dilations", [1])[0])
                c.weight.data, c.bias.data = torch.tensor(w), torch.tensor(values[n.input[2]])
                layers.append(c)
            else:
                layers.append({"Relu": nn.ReLU, "Elu": nn.ELU}[n.op_type]())
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x)


def smp(arch, encoder, **kw):
    import segmentation_models_pytorch as s
    if arch in ("Unet", "UnetPlusPlus"):
        kw = dict(encoder_depth=4, decoder_channels=(256, 128, 64, 32)) | kw
    return getattr(s, arch)(encoder_name=encoder, encoder_weights=None, in_channels=1, classes=kw.pop("classes", 2), **kw)


def monai(name, **kw):
    import monai.networks.nets as nets
    m = getattr(nets, name)(**kw)
    return m


def dyn_unet(dims, **kw):
    return monai("DynUNet", spatial_dims=dims, in_channels=1, out_channels=3, kernel_size=[3] * 4, strides=[1, 2, 2, 2], upsample_kernel_size=[2] * 3,
                 filters=[16, 32, 48, 64] if dims == 2 else [8, 16, 24, 32], **kw)


TS, DY = "torchscript", "dynamo"


def v(exporter, opset, fold=True, dynamic=True):
    return dict(exporter=exporter, opset=opset, fold=fold, dynamic=dynamic)


def networks():
    """name → (builder, input shape, variants)."""
    both = [v(TS, 17), v(DY, 18)]
    every = [v(TS, 11), v(DY, 18), v(TS, 12, fold=False), v(TS, 13, dynamic=False), v(TS, 14, fold=False, dynamic=False), v(TS, 16), v(TS, 18, fold=False),
             v(TS, 20), v(DY, 20, fold=False), v(DY, 21, dynamic=False), v(DY, 22, fold=False, dynamic=False), v(DY, 24)]
    turn = itertools.cycle([[v(TS, 17), v(DY, 20)], [v(TS, 13, fold=False), v(DY, 18, fold=False, dynamic=False)], [v(TS, 11, dynamic=False), v(DY, 23)],
                            [v(TS, 20), v(DY, 22, dynamic=False)]])
    n = {}
    for arch in ("Unet", "UnetPlusPlus", "DeepLabV3", "DeepLabV3Plus"):
        for enc in ("resnet34", "efficientnet-b0", "mobilenet_v2"):
            full = (arch, enc) == ("Unet", "resnet34")
            n[f"smp_{arch}_{enc}"] = (lambda arch=arch, enc=enc: smp(arch, enc), (1, 1, 64, 64) if arch == "Unet" else (1, 1, 32, 32), every if full else next(turn))
    n["smp_Segformer_mit_b0"] = (lambda: smp("Segformer", "mit_b0"), (1, 1, 64, 64), [v(TS, 17), v(DY, 18), v(TS, 13, fold=False, dynamic=False), v(DY, 23, fold=False)])
    n["smp_Unet_mit_b0"] = (lambda: smp("Unet", "mit_b0", encoder_depth=5, decoder_channels=(128, 64, 32, 16, 8)), (1, 1, 64, 64), [v(TS, 14, dynamic=False), v(DY, 21)])
    n["smp_Unet_hrnet"] = (lambda: smp("Unet", "tu-hrnet_w18_small", encoder_depth=5, decoder_channels=(128, 64, 32, 16, 8)), (1, 1, 64, 64), [v(TS, 16), v(DY, 18, fold=False)])
    n["hrnet_fuse"] = (HRFuse, (1, 1, 32, 48), [v(TS, 11), v(TS, 17, fold=False), v(DY, 18), v(DY, 22, fold=False, dynamic=False)])
    n["vit_conv"] = (ViTSeg, (1, 1, 64, 64), [v(TS, 17, dynamic=False), v(TS, 14, fold=False), v(DY, 18, dynamic=False), v(DY, 23, fold=False)])
    n["monai_UNETR"] = (lambda: monai("UNETR", in_channels=1, out_channels=3, img_size=32, feature_size=8, hidden_size=96, mlp_dim=192, num_heads=4, spatial_dims=2),
                        (1, 1, 32, 32), [v(TS, 17, dynamic=False), v(DY, 20), v(TS, 13, fold=False, dynamic=False)])
    n["monai_SwinUNETR"] = (lambda: monai("SwinUNETR", in_channels=1, out_channels=3, feature_size=12, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4, spatial_dims=2),
                            (1, 1, 64, 64), [v(TS, 17, dynamic=False), v(DY, 18, dynamic=False), v(DY, 20, fold=False, dynamic=False), v(TS, 16, fold=False, dynamic=False)])
    for d, size in ((2, (1, 1, 64, 48)), (3, (1, 1, 16, 32, 16))):
        w = 1 if d == 2 else 2
        n[f"monai_BasicUNet_{d}d"] = (lambda d=d, w=w: monai("BasicUNet", spatial_dims=d, in_channels=1, out_channels=2, features=(16 // w, 16 // w, 32 // w, 64 // w, 128 // w, 16 // w)), size if d == 2 else (1, 1, 16, 32, 32), both)
        n[f"monai_UNet_{d}d"] = (lambda d=d, w=w: monai("UNet", spatial_dims=d, in_channels=1, out_channels=3, channels=(16 // w, 32 // w, 64 // w, 128 // w), strides=(2, 2, 2), num_res_units=2), size,
                              [v(TS, 20, fold=False, dynamic=False), v(DY, 22)] if d == 2 else [v(TS, 11, dynamic=False), v(DY, 23)])
        n[f"monai_SegResNet_{d}d"] = (lambda d=d, w=w: monai("SegResNet", spatial_dims=d, in_channels=1, out_channels=2, init_filters=16 // w), size,
                                   [v(TS, 17), v(DY, 20, fold=False)] if d == 2 else [v(TS, 20, fold=False, dynamic=False), v(DY, 22)])
        # Unoptimised, the dynamo exporter gives a 3-D convolution without bias a scalar for one, which no runtime takes.
        n[f"monai_DynUNet_{d}d"] = (lambda d=d: dyn_unet(d), size, [v(TS, 13, fold=False), v(DY, 18, dynamic=False)] if d == 2 else [v(TS, 17), v(DY, 20)])
    n["monai_DynUNet_res_3d"] = (lambda: dyn_unet(3, res_block=True, norm_name="batch"), (1, 1, 16, 16, 16), [v(TS, 17), v(DY, 18)])
    n["meshnet_3d"] = (lambda: MeshNet(8, 4, (1, 2, 4, 2, 1)), (1, 1, 12, 14, 10), [v(TS, 11), v(DY, 18, fold=False)])
    return n


# ---------------------------------------------------------------- weights

def distinct(m):
    """m's tensors by name, each once: some networks hold a module under several names."""
    seen, out = set(), {}
    for k, t in m.state_dict().items():
        if t.is_floating_point() and t.numel() > 0 and t.data_ptr() not in seen:
            seen.add(t.data_ptr())
            out[k] = t
    return out


def fill(m, before={}):
    """Gives every float parameter and buffer the formula's values, of about the size it has now. Returns centre and amplitude by name; what still has
    the values of an earlier filling keeps them."""
    scale = {}
    for name, t in distinct(m).items():
        if name in before and np.array_equal(t.numpy(), formula(name, tuple(t.shape), *before[name])):
            scale[name] = before[name]
            continue
        mean, std = float(t.double().mean()), float(t.double().std(unbiased=False))
        if name.endswith("running_var"):
            centre, amplitude = mean, 0.4 * mean
        elif t.dim() == 1 or t.numel() == max(t.shape):
            centre, amplitude = mean, max(0.15, 1.7 * std)
        else:
            centre, amplitude = 0.0, 1.7 * std if std > 0 else 0.05
        centre, amplitude = float(np.float32(centre)), float(np.float32(amplitude))
        t.copy_(torch.tensor(formula(name, tuple(t.shape), centre, amplitude)))
        scale[name] = (centre, amplitude)
    return scale


def calibrate(m, x):
    """Sets running statistics to those of x."""
    norms = [b for b in m.modules() if isinstance(b, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for b in norms:
        b.momentum = 0.5
        b.train()
    with torch.no_grad():
        for _ in range(6):
            m(x)
    m.eval()


CONVS = {"conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d), "transposed": (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)}


def fused(m, x, kinds):
    """m with batch normalisations folded into the convolutions before them."""
    m = copy.deepcopy(m)
    made, pairs, keep, hooks = {}, [], [], []
    convs = sum((CONVS[k] for k in kinds), ())

    def remember(mod, _, y):
        keep.append(y)
        made[id(y)] = mod

    for mod in m.modules():
        if isinstance(mod, convs):
            hooks.append(mod.register_forward_hook(remember))
        elif isinstance(mod, nn.modules.batchnorm._BatchNorm):
            hooks.append(mod.register_forward_pre_hook(lambda mod, i: pairs.append((made.get(id(i[0])), mod)) or None))
    with torch.no_grad():
        m(x)
    for h in hooks:
        h.remove()
    for conv, bn in pairs:
        if conv is None or bn.__dict__.get("folded"):
            continue
        g = bn.weight.data * torch.rsqrt(bn.running_var + bn.eps)
        shape = [1] * conv.weight.dim()
        shape[1 if isinstance(conv, CONVS["transposed"]) else 0] = -1
        bias = conv.bias.data if conv.bias is not None else 0
        conv.weight.data = conv.weight.data * g.reshape(shape)
        conv.bias = nn.Parameter((bias - bn.running_mean) * g + bn.bias.data)
        bn.folded = True
        bn.forward = lambda x: x
        for k in ("weight", "bias"):
            delattr(bn, k)
        for k in ("running_mean", "running_var", "num_batches_tracked"):
            delattr(bn, k)
    return m


def permutation(a, want):
    """The permutation that makes a of shape a.shape, without axes of size 1, the array want, up to a reshape."""
    axes = [i for i in range(a.ndim) if a.shape[i] != 1]
    sq = a.reshape([a.shape[i] for i in axes])
    for p in itertools.permutations(range(sq.ndim)):
        b = sq.transpose(p).reshape(-1)
        if np.allclose(b, want.reshape(-1), rtol=2e-4, atol=1e-6 * float(np.abs(b).max() + 1e-9)):
            return list(sq.shape), list(p)
    return None


def match(inits, m):
    """initializer → (tensor's name, shape, permutation), and the initializers that are none of m's tensors."""
    tensors = {k: t.detach().float().numpy() for k, t in distinct(m).items()}
    by_size = {}
    for k, t in tensors.items():
        by_size.setdefault(t.size, []).append(k)
    found, rest = {}, []
    for name, w in inits.items():
        hit = None
        for k in by_size.get(w.size, []):
            t = tensors[k]
            if abs(float(t.sum(dtype=np.float64)) - float(w.sum(dtype=np.float64))) > 1e-3 * float(np.abs(t).sum(dtype=np.float64)) + 1e-6:
                continue
            if (p := permutation(t, w)) is not None:
                hit = (k, *p)
                break
        if hit:
            found[name] = hit
        elif w.size > 1:
            rest.append(name)
    return found, rest


# ---------------------------------------------------------------- export

def export(m, x, var):
    with tempfile.TemporaryDirectory() as d:
        path = f"{d}/m.onnx"
        axes = {i: f"axis{i}" for i in [0, *range(2, x.dim())]}
        if var["exporter"] == TS:
            torch.onnx.export(m, (x,), path, dynamo=False, opset_version=var["opset"], do_constant_folding=var["fold"],
                              training=torch.onnx.TrainingMode.EVAL if var["fold"] else torch.onnx.TrainingMode.PRESERVE,
                              input_names=["image"], output_names=["logits"], dynamic_axes={"image": axes, "logits": axes} if var["dynamic"] else None)
        else:
            shapes = ({i: torch.export.Dim.AUTO for i in axes},) if var["dynamic"] else None
            torch.onnx.export(m, (x,), path, dynamo=True, opset_version=var["opset"], optimize=var["fold"], external_data=False, verbose=False,
                              input_names=["image"], output_names=["logits"], dynamic_shapes=shapes)
        model = onnx.load(path)
    onnx.checker.check_model(model)
    return model


def strip(model):
    model.ClearField("metadata_props")
    model.doc_string = ""

    def graph(g):
        g.doc_string = ""
        del g.value_info[:]
        g.ClearField("metadata_props")
        for n in g.node:
            n.doc_string = ""
            n.ClearField("metadata_props")
            for a in n.attribute:
                if a.HasField("g"):
                    graph(a.g)
        for t in list(g.initializer) + list(g.input) + list(g.output):
            t.doc_string = ""
            t.ClearField("metadata_props")
    graph(model.graph)
    for f in model.functions:
        f.ClearField("metadata_props")
        f.doc_string = ""
        del f.value_info[:]
        for n in f.node:
            n.ClearField("metadata_props")
            n.doc_string = ""


# ---------------------------------------------------------------- the method

def lesson(seed, shape, classes):
    n = int(np.prod(shape[2:]))
    x = 2 * uniform(f"{seed}/x", *shape)
    u = uniform(f"{seed}/target", 1, classes, *shape[2:]) + 0.1
    label = (uniform(f"{seed}/label", 1, 1, *shape[2:]) * classes).astype(int)
    scribble = np.concatenate([(label == k) for k in range(classes)], 1).astype(np.float64)
    marked = (uniform(f"{seed}/marked", 1, 1, *shape[2:]) > 0.9).astype(np.float64)
    f32 = lambda a: torch.tensor(np.asarray(a, np.float32)).double()
    return dict(x=f32(x), target=f32(u / u.sum(1, keepdims=True)), weight=f32(np.full((1, 1, *shape[2:]), 1 / n)), scribble=f32(scribble), marked=f32(marked / marked.sum()))


def losses(logits, e):
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    logp = logits.log_softmax(1)
    return -(e["target"] * logp * e["weight"]).sum(), -(e["scribble"] * logp * e["marked"]).sum()


def first(y):
    while isinstance(y, (tuple, list)):
        y = y[0]
    return y


def gradients(m, e, names):
    p = dict(m.named_parameters())
    dtype = next(iter(p.values())).dtype
    e = {k: t.to(dtype) for k, t in e.items()}
    a, b = losses(first(m(e["x"])), e)
    g = torch.autograd.grad(a + LAMBDA * b, [p[k] for k in names])
    return {k: t.double().numpy() for k, t in zip(names, g)}


def worst(a, b):
    total = np.sqrt(sum(np.linalg.norm(t) ** 2 for t in b.values()))
    # A bias before a normalisation has a gradient of exactly 0, which rounding hides.
    return max((np.linalg.norm(a[k] - b[k]) / np.linalg.norm(b[k]), k) for k in b if np.linalg.norm(b[k]) > 1e-9 * total)


def ten_steps(m, e, lr, names):
    """Steps of m in its own precision, with the weights themselves kept in float64."""
    p = dict(m.named_parameters())
    params = [p[k] for k in names]
    start = [t.detach().double().clone() for t in params]
    student, teacher = [t.clone() for t in start], [t.clone() for t in start]
    curve = []
    for _ in range(STEPS):
        a, b = losses(first(m(e["x"])), e)
        g = torch.autograd.grad(a + LAMBDA * b, params)
        with torch.no_grad():
            for t, d, own, avg in zip(params, g, student, teacher):
                own -= lr * d.double()
                avg.mul_(ALPHA).add_(own, alpha=1 - ALPHA)
                t.copy_(own)
        curve.append([a.item(), b.item()])
    moved = {k: (t - s).numpy() for k, t, s in zip(names, student, start)}
    followed = {k: (t - s).numpy() for k, t, s in zip(names, teacher, start)}
    return curve, moved, followed


def rate(m, e, lr, names):
    """The learning rate, at most lr, with which PyTorch's own ten steps in float32, from an input shaken by 1e-6, end near those in float64:
    on longer paths they part."""
    shaken = e | dict(x=e["x"] * (1 + 1e-6 * (2 * torch.tensor(uniform("shaken", *e["x"].shape)) - 1)))
    if sum(t.numel() for t in m.parameters()) > 500_000:  # a path so short that it need not be watched, in float32
        lr = float(np.float32(lr / 3))
        return lr, ten_steps(copy.deepcopy(m).float(), {k: t.float() for k, t in e.items()}, lr, names)
    for _ in range(4):
        lr = float(np.float32(lr))
        want = ten_steps(copy.deepcopy(m).double(), e, lr, names)
        got = ten_steps(copy.deepcopy(m).float(), {k: t.float() for k, t in shaken.items()}, lr, names)
        error = np.sqrt(sum(np.linalg.norm(got[1][k] - want[1][k]) ** 2 for k in names) / sum(np.linalg.norm(want[1][k]) ** 2 for k in names))
        if error < 3e-4:
            break
        tried, lr = lr, lr / 3
    else:
        lr = tried
    return lr, want


# ---------------------------------------------------------------- one case

references = {}  # by network and what is folded: exports of one network share it


def reference(ref, shape, classes, used):
    """The input's seed with the error of PyTorch's own float32 gradients, the gradients in both precisions, and ten steps."""
    choice = None
    for seed in range(6):
        e = lesson(seed, shape, classes)
        g32 = gradients(ref.float(), e, used)
        g64 = gradients(copy.deepcopy(ref).double(), e, used)
        err, where = worst(g32, g64)
        if choice is None or err < choice[0]:
            choice = (err, where, seed, g64, g32)
        if err < 5e-5:
            break
    err, where, seed, grads, g32 = choice
    e = lesson(seed, shape, classes)
    norm = np.sqrt(sum(float(t.double().pow(2).sum()) for k, t in ref.state_dict().items() if k in used))
    gnorm = np.sqrt(sum(np.linalg.norm(g) ** 2 for g in grads.values()))
    lr, (curve, moved, followed) = rate(ref, e, 3e-4 * norm / (STEPS * gnorm), used)
    return err, where, seed, grads, g32, lr, curve, moved, followed


def title_of(name, var):
    return f"{name}_{var['exporter']}{var['opset']}{'' if var['fold'] else '_unfolded'}{'' if var['dynamic'] else '_static'}"


def run(name, build, shape, var, out):
    began = time.time()
    title = title_of(name, var)
    torch.manual_seed(3)
    m = build().eval()
    x = torch.tensor(2 * uniform("0/x", *shape)).float()
    with torch.no_grad():
        calibrate(m, torch.tensor(2 * uniform("calibration", 4, *shape[1:])).float())
        scale = fill(m)
    for p in m.parameters():
        p.requires_grad_(True)
    model = export(m, x, var)
    inits = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims, dtype=int) > 0}
    # The reference that explains most initializers: as written, or with normalisations folded.
    best = None
    for kinds in ([], ["conv"], ["conv", "transposed"]):
        ref = fused(m, x, kinds) if kinds else copy.deepcopy(m)
        found, rest = match(inits, ref)
        size = sum(inits[k].size for k in rest)
        if best is None or size < best[0]:
            best = (size, ref, found, rest, kinds)
    _, ref, found, rest, kinds = best
    for k in rest:
        if inits[k].size > 60000:
            raise SystemExit(f"{title}: initializer {k} {inits[k].shape} is none of the network's tensors")
    with torch.no_grad():
        scale = fill(ref, scale)
    # A tensor may serve as several initializers; its gradient is then known for their sum only, so they are left constant.
    uses = {}
    for k, (t, _, _) in found.items():
        uses.setdefault(t, []).append(k)
    params = dict(ref.named_parameters())
    weights = []
    for k, (t, shape_of, perm) in found.items():
        w = ref.state_dict()[t].numpy().reshape(shape_of).transpose(perm).reshape(inits[k].shape)
        inits[k] = np.ascontiguousarray(w)
        weights.append(dict(name=k, tensor=t, shape=shape_of, permutation=perm, dims=list(w.shape), centre=scale[t][0], amplitude=scale[t][1],
                            trained=t in params and len(uses[t]) == 1))
    trained = {w["name"]: w for w in weights if w["trained"]}
    used = sorted({w["tensor"] for w in trained.values()})
    for k, p in ref.named_parameters():
        p.requires_grad_(k in used)
    for t in model.graph.initializer:
        if t.name in found:
            t.CopyFrom(numpy_helper.from_array(inits[t.name], t.name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        y = first(ref(x))
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    difference = float(np.abs(got - y.numpy()).max() / np.abs(y.numpy()).max())
    assert got.shape == tuple(y.shape) and difference < 2e-4, f"{title}: ONNX Runtime and PyTorch differ by {difference}"
    classes = max(2, y.shape[1])
    key = (name, *kinds, *used)
    if key not in references:
        references[key] = reference(ref, shape, classes, used)
    err, where, seed, grads, g32, lr, curve, moved, followed = references[key]
    gnorm = np.sqrt(sum(np.linalg.norm(g) ** 2 for g in grads.values()))
    view = lambda w, a: a.reshape(w["shape"]).transpose(w["permutation"])
    for w in trained.values():
        for key, values in (("gradient", grads), ("moved", moved), ("followed", followed)):
            w[key] = pack(described(w["name"], view(w, values[w["tensor"]])))
        exact = grads[w["tensor"]]
        own = np.linalg.norm(g32[w["tensor"]] - exact) / max(np.linalg.norm(exact), 1e-30)
        if own > 2e-5 and np.linalg.norm(exact) > 1e-9 * gnorm:
            w["float32"] = float(own)
    for w in weights:
        w.pop("trained")
    del_names = set(found)
    keep = [t for t in model.graph.initializer if t.name not in del_names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(keep)
    strip(model)
    case = dict(name=title, exporter=var["exporter"], opset=var["opset"], folded=kinds, input=list(shape), classes=classes, seed=seed, learning_rate=lr,
                gradient_norm=float(gnorm), weights=weights, frozen=[k for k in rest], losses=curve, model=base64.b64encode(model.SerializeToString()).decode())
    data = gzip.compress(json.dumps(case, separators=(",", ":")).encode(), 9, mtime=0)
    (out / f"{title}.json.gz").write_bytes(data)
    big = [(k, list(inits[k].shape)) for k in rest if inits[k].size > 64]
    print(f"{title}: {len(trained)} of {len(weights)} weights, float32 {err:.1e} ({where}), seed {seed}, losses {curve[0][0]:.3f},{curve[0][1]:.3f} to {curve[-1][0]:.3f},{curve[-1][1]:.3f}, "
          f"{len(data)} bytes, folded {kinds}, unexplained {big}, {time.time() - began:.0f} s", flush=True)


def brainchop(path, out):
    """One of brainchop's trained networks: the file itself is not copied, its weights are the real ones."""
    m = FromONNX(path).double()
    g = onnx.load(path).graph
    names = [(n.input[1], n.input[2]) for n in g.node if n.op_type == "Conv"]
    convs = [(k, c) for k, c in m.named_modules() if isinstance(c, nn.Conv3d)]
    of = {f"{k}.{part}": init for (k, _), pair in zip(convs, names) for part, init in zip(("weight", "bias"), pair)}
    shape, classes = (1, 1, 18, 20, 16), convs[-1][1].out_channels
    used = sorted(of)
    choice = None
    for seed in range(12):
        e = lesson(seed, shape, classes)
        e["x"] = e["x"] / 2  # intensities lie in 0…1
        g64 = gradients(copy.deepcopy(m), e, used)
        err, where = worst(gradients(copy.deepcopy(m).float(), e, used), g64)
        if choice is None or err < choice[0]:
            choice = (err, where, seed, g64)
        if err < 2e-5:
            break
    err, where, seed, grads = choice
    e = lesson(seed, shape, classes)
    e["x"] = e["x"] / 2
    norm = np.sqrt(sum(float(t.pow(2).sum()) for t in m.state_dict().values()))
    gnorm = np.sqrt(sum(np.linalg.norm(v) ** 2 for v in grads.values()))
    lr, (curve, moved, followed) = rate(m, e, 1e-3 * norm / (STEPS * gnorm), used)
    weights = [dict(name=of[k], gradient=pack(described(of[k], grads[k])), moved=pack(described(of[k], moved[k])), followed=pack(described(of[k], followed[k]))) for k in used]
    stem = pathlib.Path(path).stem
    case = dict(name=f"brainchop_{stem}", file=stem + ".onnx", exporter="brainchop", opset=17, input=list(shape), classes=classes, seed=seed, halved=True, learning_rate=lr,
                gradient_norm=float(gnorm), weights=weights, frozen=[], losses=curve)
    data = gzip.compress(json.dumps(case, separators=(",", ":")).encode(), 9, mtime=0)
    (out / f"brainchop_{stem}.json.gz").write_bytes(data)
    print(f"brainchop_{stem}: float32 {err:.1e} ({where}), seed {seed}, losses {curve[0]} to {curve[-1]}, {len(data)} bytes", flush=True)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("-o", type=pathlib.Path, default=HERE / "zoo")
    args.add_argument("--brainchop", help="folder of brainchop's networks as ONNX")
    args.add_argument("--missing", action="store_true", help="make only what is not there yet")
    args.add_argument("names", nargs="*")
    a = args.parse_args()
    a.o.mkdir(exist_ok=True)
    if a.brainchop:
        for p in sorted(pathlib.Path(a.brainchop).glob("*.onnx")):
            brainchop(p, a.o)
        return
    failed = []
    chosen = {k: n for k, n in networks().items() if not a.names or any(w in k for w in a.names)}
    # Two exports of each network first, which mostly share a reference, then the others.
    for name, (build, shape, variants) in [(k, (b, s, v[:2])) for k, (b, s, v) in chosen.items()] + [(k, (b, s, v[2:])) for k, (b, s, v) in chosen.items()]:
        references.clear()
        for var in variants:
            if a.missing and (a.o / f"{title_of(name, var)}.json.gz").exists():
                continue
            try:
                run(name, build, shape, var, a.o)
            except (Exception, SystemExit) as err:  # the others still want to be made
                failed.append((name, var, repr(err)[:600]))
                print("FAILED", *failed[-1], flush=True)
    sys.exit(len(failed) > 0)


if __name__ == "__main__":
    main()
