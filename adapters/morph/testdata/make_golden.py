"""Writes golden.json: what scipy.ndimage makes of a few small masks. Needs numpy and scipy.

Arrays are indexed [z][y][x] here, so that their memory order is x fastest, as in the Go code.
"""
import json, pathlib
import numpy as np
from scipy import ndimage as ndi

rng = np.random.default_rng(7)
bits = lambda a: "".join("1" if v else "0" for v in np.asarray(a, bool).ravel())
nums = lambda a: [round(float(v), 5) for v in np.asarray(a).ravel()]


def blobs(shape, sigma, quantile):
    f = ndi.gaussian_filter(rng.standard_normal(shape), sigma)
    return f > np.quantile(f, quantile)


def sizes(m, structure):
    labels, n = ndi.label(m, structure)
    return [int(v) for v in np.bincount(labels.ravel(), minlength=n + 1)], labels


def disc(r):
    n = int(r)
    y, x = np.mgrid[-n:n + 1, -n:n + 1]
    return x * x + y * y <= r * r


cases2 = []
for h, w, sigma, q in [(19, 24, 1.2, .5), (17, 17, .6, .6), (1, 23, 1, .5), (24, 1, 1, .5), (30, 40, 2, .7), (5, 6, 1, 0), (21, 20, .1, .5)]:
    m = blobs((h, w), sigma, q) if q else np.ones((h, w), bool)
    spacing = [1.5, .7]  # x, y
    four, _ = sizes(m, ndi.generate_binary_structure(2, 1))
    eight, l8 = sizes(m, ndi.generate_binary_structure(2, 2))
    values = rng.standard_normal((h, w)).astype("f4")
    cases2.append(dict(
        w=w, h=h, bits=bits(m), spacing=spacing, four=four, eight=eight, labels8=[int(v) for v in l8.ravel()],
        distance=nums(ndi.distance_transform_edt(~m, sampling=spacing[::-1])) if m.any() else None,
        depth=nums(ndi.distance_transform_edt(np.pad(m, 1), sampling=spacing[::-1])[1:-1, 1:-1]),
        dilated=bits(ndi.binary_dilation(m, disc(2.3))), eroded=bits(ndi.binary_erosion(m, disc(2.3))),
        filled=bits(ndi.binary_fill_holes(m)), boundary=bits(m & ~ndi.binary_erosion(m)),
        values=nums(values), blurred=nums(ndi.gaussian_filter(values.astype("f8"), 1.3, mode="nearest", truncate=3)),
    ))

cases3 = []
for shape, sigma, q in [((7, 8, 9), .8, .6), ((5, 12, 4), .2, .7), ((1, 9, 9), .6, .6)]:
    m = blobs(shape, sigma, q)
    spacing = [.9, 1.1, 2.5]
    cases3.append(dict(
        size=list(shape[::-1]), bits=bits(m), spacing=spacing,
        sizes=[sizes(m, ndi.generate_binary_structure(3, c))[0] for c in (1, 2, 3)],
        distance=nums(ndi.distance_transform_edt(~m, sampling=spacing[::-1])),
    ))

out = pathlib.Path(__file__).parent / "golden.json"
out.write_text(json.dumps(dict(slices=cases2, volumes=cases3), separators=(",", ":")))
