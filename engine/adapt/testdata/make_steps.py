"""Makes steps.json: what PyTorch's own losses, gradients and optimisers make of a small U-Net, in float64.

    python make_steps.py        (torch 2.5)

The network is engine/train's UNet with Input 2, Channels (4, 8), Groups 2, Classes 2. Tensors are written as float32, base64.
"""
import base64
import json

import numpy as np
import torch
import torch.nn.functional as F

CHANNELS, GROUPS, SIZE = (4, 8), 2, 16


def pair(p, name, inp, out):
    for conv, i in (("a", inp), ("b", out)):
        p[f"{name}.{conv}.weight"] = torch.randn(out, i, 3, 3) * (2 / (9 * i)) ** 0.5
        p[f"{name}.{conv}.scale"] = 1 + 0.1 * torch.randn(out, 1, 1, 1)
        p[f"{name}.{conv}.shift"] = 0.1 * torch.randn(out)


def parameters():
    p = {}
    a, b = CHANNELS
    pair(p, "down0", 2, a)
    pair(p, "down1", a, b)
    pair(p, "up0", a + b, a)
    p["head.weight"] = torch.randn(2, a, 1, 1) * 0.5
    p["head.bias"] = 0.1 * torch.randn(2)
    # Rounded to float32, so that both sides start from the same numbers.
    return {k: v.float().double() for k, v in p.items()}


def forward(p, x):
    def block(x, name):
        for c in "ab":
            n = f"{name}.{c}"
            x = F.conv2d(x, p[n + ".weight"], padding=1)
            x = F.relu(F.group_norm(x, GROUPS, p[n + ".scale"].flatten(), p[n + ".shift"], 1e-5))
        return x

    skip = block(x, "down0")
    low = block(F.max_pool2d(skip, 2), "down1")
    up = F.interpolate(low, scale_factor=2, mode="nearest")
    x = block(torch.cat([skip, up], 1), "up0")
    return F.conv2d(x, p["head.weight"], p["head.bias"])


def example(steps, batch):
    r = lambda *s: torch.rand(*s).float().double()
    target = r(steps, batch, 1, SIZE, SIZE)
    label = (r(steps, batch, 1, SIZE, SIZE) > 0.5).double()
    marked = (r(steps, batch, 1, SIZE, SIZE) > 0.9).double()
    weight = (r(steps, batch, 1, SIZE, SIZE) > 0.3).double()
    return dict(
        x=r(steps, batch, 2, SIZE, SIZE),
        target=torch.cat([1 - target, target], 2).float().double(),
        scribble=torch.cat([1 - label, label], 2),
        weight=(weight / weight.sum((1, 2, 3, 4), keepdim=True)).float().double(),
        marked=(marked / marked.sum((1, 2, 3, 4), keepdim=True)).float().double(),
    )


def run(name, steps, stacked, batch, alphas, per_step, lr, lam, optimizer="sgd", dice=False, clip=0.0, decay=0.0):
    p = {k: v.requires_grad_() for k, v in parameters().items()}
    start = {k: v.detach().clone() for k, v in p.items()}
    averages = [{k: v.detach().clone() for k, v in p.items()} for _ in alphas]
    e = example(stacked, batch)
    opt = torch.optim.SGD(p.values(), lr) if optimizer == "sgd" else torch.optim.AdamW(p.values(), lr, weight_decay=decay)
    losses = []

    def average():
        with torch.no_grad():
            for avg, alpha in zip(averages, alphas):
                for k in p:
                    avg[k].mul_(alpha).add_(p[k], alpha=1 - alpha)

    for k in range(steps):
        s = k % stacked
        logp = forward(p, e["x"][s]).log_softmax(1)
        cons = -(e["target"][s] * logp * e["weight"][s]).sum()
        inter = -(e["scribble"][s] * logp * e["marked"][s]).sum()
        if dice:
            counted = (e["weight"][s] > 0).double()
            q, t = logp[:, 1:].exp() * counted, e["target"][s][:, 1:] * counted
            cons = cons + 1 - ((2 * (q * t).sum((2, 3)) + 1) / (q.sum((2, 3)) + t.sum((2, 3)) + 1)).mean()
        opt.zero_grad()
        (cons + lam * inter).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(p.values(), clip)
        if optimizer != "sgd":
            # Kingma and Ba's efficient form adds epsilon to the uncorrected moment, which is this much in PyTorch's form.
            opt.param_groups[0]["eps"] = 1e-8 / (1 - 0.999 ** (k + 1)) ** 0.5
        opt.step()
        if per_step:
            average()
        losses.append([cons.item(), inter.item()])
    if not per_step:
        average()
    return dict(
        name=name, steps=steps, stacked=stacked, batch=batch, alphas=alphas, per_step=per_step, learning_rate=lr, lambda_=lam,
        adamw=optimizer != "sgd", dice=dice, clip=clip, decay=decay, losses=losses,
        inputs={k: pack(v) for k, v in e.items()}, start=packed(start), student=packed(p), averages=[packed(a) for a in averages],
    )


def pack(t):
    return base64.b64encode(t.detach().numpy().astype("<f4").tobytes()).decode()


def packed(p):
    return {k: pack(v) for k, v in p.items()}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(7)
    cases = [
        run("thesis, average per step", 3, 1, 1, [0.99], True, 1e-3, 2.0),
        run("thesis, average per interaction", 3, 1, 1, [0.99], False, 1e-3, 2.0),
        run("two batches in turn, two averages", 3, 2, 2, [0.99, 0.9], True, 1e-3, 0.5),
        run("no average", 2, 1, 1, [], True, 1e-3, 2.0),
        run("gradient clipped", 1, 1, 1, [], True, 1e-1, 2.0, clip=0.05),
        run("AdamW and Dice", 3, 3, 2, [0.9], True, 1e-3, 0.0, optimizer="adamw", dice=True, clip=1.0, decay=1e-2),
    ]
    with open("steps.json", "w") as f:
        json.dump(cases, f, indent=0)
