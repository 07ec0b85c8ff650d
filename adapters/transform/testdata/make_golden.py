"""Writes golden.json: what PyTorch's interpolation, and exact area averages, make of small slices. Needs numpy and torch."""
import json, pathlib
import numpy as np, torch, torch.nn.functional as F

rng = np.random.default_rng(3)
nums = lambda a: [round(float(v), 6) for v in np.asarray(a).ravel()]


def area(a, n, axis):
    """Averages over n equal stretches: repeat every value n times, then average len(a) neighbours."""
    a = np.moveaxis(a, axis, 0)
    a = np.repeat(a, n, axis=0).reshape(n, a.shape[0], *a.shape[1:]).mean(1)
    return np.moveaxis(a, 0, axis)


cases = []
for (h, w), (th, tw) in [((7, 9), (7, 9)), ((7, 9), (11, 20)), ((12, 8), (24, 16)), ((12, 8), (6, 4)), ((13, 17), (5, 6)), ((10, 10), (9, 7)), ((1, 5), (1, 10))]:
    a = rng.standard_normal((h, w)).astype("f4")
    if th >= h and tw >= w:
        out = F.interpolate(torch.from_numpy(a)[None, None], size=(th, tw), mode="bilinear", align_corners=False)[0, 0].numpy()
    else:
        out = area(area(a.astype("f8"), th, 0), tw, 1)
    labels = rng.integers(0, 5, (h, w))
    near = F.interpolate(torch.from_numpy(labels.astype("f4"))[None, None], size=(th, tw), mode="nearest-exact")[0, 0].numpy()
    cases.append(dict(w=w, h=h, tw=tw, th=th, values=nums(a), out=nums(out), labels=labels.ravel().tolist(), nearest=near.astype(int).ravel().tolist()))
(pathlib.Path(__file__).parent / "golden.json").write_text(json.dumps(cases, separators=(",", ":")))
