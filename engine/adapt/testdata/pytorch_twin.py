"""PyTorch's side of the comparison that pytorch_test.go prints: the same networks, the same step, eager, on the CPU.

It reads one JSON request a line on standard input and answers each with one JSON line:
  {"do": "export", "net": NAME, "path": FILE}                    writes the network as ONNX
  {"do": "prepare", "net": NAME, "size": S, "channels": C, "batch": B, "path": FILE}   builds network and data
  {"do": "step", "steps": K} / {"do": "forward"}                 runs; seconds, CPU seconds and, for steps, the losses
  {"do": "memory"}                                               peak resident MiB since prepare: above what it was at its end ("steps"),
                                                                 above what the imported libraries take ("network"), and all ("process")

Needs torch, segmentation_models_pytorch and onnx. Threads: environment variable TWIN_THREADS (default 2).
"""
import json, os, resource, sys, time
import numpy as np, onnx, torch
from onnx import numpy_helper
from torch import nn
import torch.nn.functional as F

torch.set_num_threads(int(os.environ.get("TWIN_THREADS", "2")))


def unet34():
    import segmentation_models_pytorch as smp
    torch.manual_seed(0)
    return smp.Unet("resnet34", encoder_weights=None, encoder_depth=4, decoder_channels=(256, 128, 64, 32), in_channels=3, classes=2).eval()


class GroupUNet(nn.Module):
    """The U-Net of engine/train/unet.go, from the initializers of its ONNX file."""

    def __init__(self, path):
        super().__init__()
        graph = onnx.load(path).graph
        w = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
        self.groups = int(w[next(n for n in graph.node if n.op_type == "Reshape").input[1]][1])
        self.levels = 1 + max(int(k[4:].split(".")[0]) for k in w if k.startswith("down"))
        self.w = nn.ParameterDict({k.replace(".", "_"): nn.Parameter(v) for k, v in w.items() if k.startswith(("down", "up", "head"))})

    def conv(self, x, name):
        x = F.conv2d(x, self.w[name + "_weight"], padding=1)
        return F.relu(F.group_norm(x, self.groups, self.w[name + "_scale"].flatten(), self.w[name + "_shift"].flatten()))

    def forward(self, x):
        skips = []
        for i in range(self.levels):
            if i:
                x = F.max_pool2d(x, 2)
            x = self.conv(self.conv(x, f"down{i}_a"), f"down{i}_b")
            skips.append(x)
        for i in range(self.levels - 2, -1, -1):
            x = torch.cat([skips[i], F.interpolate(x, scale_factor=2, mode="nearest")], 1)
            x = self.conv(self.conv(x, f"up{i}_a"), f"up{i}_b")
        return F.conv2d(x, self.w["head_weight"], self.w["head_bias"])


def resident(what):
    for line in open("/proc/self/status"):
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return 0.0


class Twin:
    def export(self, r):
        x = torch.randn(1, 3, 64, 64)
        axes = {"image": {0: "n", 2: "h", 3: "w"}, "logits": {0: "n", 2: "h", 3: "w"}}
        torch.onnx.export(unet34(), (x,), r["path"], dynamo=False, opset_version=17, input_names=["image"], output_names=["logits"], dynamic_axes=axes)
        return {}

    def prepare(self, r):
        if r["net"] == "unet34":
            import segmentation_models_pytorch  # is no part of the network
        libraries = resident("VmRSS")
        self.net = unet34() if r["net"] == "unet34" else GroupUNet(r["path"])
        # smp keeps encoder levels that a depth of 4 does not use
        self.net(torch.zeros(1, r["channels"], 32, 32)).sum().backward()
        self.params = [p for p in self.net.parameters() if p.grad is not None]
        self.teacher = [p.detach().clone() for p in self.params]
        n, s = r["batch"], r["size"]
        def wave(*shape):  # the same numbers as the Go side's, without sharing a random generator
            i = np.arange(int(np.prod(shape)), dtype=np.float64)
            return torch.from_numpy(np.sin(i * 0.37 + 0.11 * np.floor(i / 97)).astype(np.float32).reshape(shape))
        self.x = wave(n, r["channels"], s, s)
        q = (wave(n, 1, s, s) + 1) / 2
        self.target = torch.cat([q, 1 - q], 1)
        y = (wave(n, 1, s, s) > 0).float()
        self.scribble = torch.cat([y, 1 - y], 1)
        self.weight = torch.full((n, 1, s, s), 1.0 / (n * s * s))
        self.marked = torch.full((n, 1, s, s), 0.05 / (n * s * s))
        open("/proc/self/clear_refs", "w").write("5")
        self.before, self.libraries = resident("VmRSS"), libraries
        return {}

    def step(self, r, rate=1e-6, alpha=0.99, lam=2.0):
        losses = []
        for _ in range(r["steps"]):
            logp = F.log_softmax(self.net(self.x), 1)
            loss = -(self.weight * (self.target * logp)).sum() - lam * (self.marked * (self.scribble * logp)).sum()
            for p in self.params:
                p.grad = None
            loss.backward()
            with torch.no_grad():
                torch._foreach_add_(self.params, [p.grad for p in self.params], alpha=-rate)
                torch._foreach_mul_(self.teacher, alpha)
                torch._foreach_add_(self.teacher, self.params, alpha=1 - alpha)
            losses.append(loss.item())
        return {"losses": losses}

    def forward(self, _):
        with torch.no_grad():
            return {"sum": float(torch.softmax(self.net(self.x), 1).sum())}

    def memory(self, _):
        most = resident("VmHWM")
        return {"mib": {"steps": most - self.before, "network": most - self.libraries, "process": most}}


twin = Twin()
print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    cpu, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    answer = getattr(twin, request["do"])(request)
    answer["seconds"] = time.perf_counter() - start
    now = resource.getrusage(resource.RUSAGE_SELF)
    answer["cpu"] = now.ru_utime + now.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(json.dumps(answer), flush=True)
