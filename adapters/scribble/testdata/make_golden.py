"""Writes golden.json: strokes and loss maps of small scribbled label maps, by scipy.ndimage. Needs numpy and scipy.

Arrays are indexed [k][j][i]. The rules of the package's documentation are written down here a second time, on scipy's labelling.
"""
import json, pathlib
import numpy as np
from scipy import ndimage as ndi

rng = np.random.default_rng(5)
full = lambda n: ndi.generate_binary_structure(n, n)


def acquisition(size, spacing):
    if size[2] == 1:
        return 2
    return max((2, 1, 0), key=lambda a: (spacing[a], a))


def strokes(layer, axis, positive):
    out = []
    labels, n = ndi.label(layer, full(3))
    for part in range(1, n + 1):
        voxels = np.argwhere(labels == part)[:, ::-1]  # i, j, k
        flat = [a for a in range(3) if np.ptp(voxels[:, a]) == 0]
        a = axis if axis in flat or not flat else max(flat)
        x, y = [b for b in range(3) if b != a]
        for s in np.unique(voxels[:, a]):
            pts = voxels[voxels[:, a] == s]
            plane = np.zeros((pts[:, y].max() + 1, pts[:, x].max() + 1), bool)
            plane[pts[:, y], pts[:, x]] = True
            two, m = ndi.label(plane, full(2))
            for q in range(1, m + 1):
                out.append([a, int(s), positive, [[int(px), int(py)] for py, px in np.argwhere(two == q)]])
    return out


def loss(strokes, k, w, h, sigma, epsilon):
    reach = {True: np.zeros((h, w), bool), False: np.zeros((h, w), bool)}
    for a, s, positive, pixels in strokes:
        if (a, s) != (2, k):
            continue
        ink = np.zeros((h, w))
        for x, y in pixels:
            ink[y, x] = 1
        reach[positive] |= (ndi.gaussian_filter(ink, sigma, mode="nearest", truncate=3) > epsilon) | (ink > 0)
    both = reach[True] & reach[False]
    return ((reach[True] | reach[False]) & ~both), reach[True] & ~both


cases = []
for size, spacing, density in [((9, 8, 7), (1, 1, 3), .04), ((9, 8, 7), (1, 2, 1), .08), ((8, 9, 6), (1, 1, 1), .05), ((12, 11, 1), (1, 1, .1), .2), ((1, 1, 9), (1, 1, 1), .5)]:
    m = np.zeros(size[::-1], int)
    for label in (4, 5):  # lines along the axes, and specks
        for _ in range(4):
            v = [int(rng.integers(n)) for n in size]
            a = int(rng.integers(3))
            index = [slice(c, c + 1) for c in v]
            index[a] = slice(max(v[a] - 2, 0), v[a] + 2)
            m[tuple(index[::-1])] = label
    m[rng.random(m.shape) < density / 2] = 4
    m[rng.random(m.shape) < density / 2] = 5
    m[rng.random(m.shape) < density / 2] = 9
    axis = acquisition(size, spacing)
    found = strokes(m == 4, axis, True) + strokes(m == 5, axis, False)
    k = next((s[1] for s in found if s[0] == 2), 0)
    lm, ly = loss(found, k, size[0], size[1], 1.2, .03)
    cases.append(dict(size=size, spacing=spacing, labels="".join(str(v) for v in m.ravel()), strokes=found, slice=k,
                      m="".join("01"[v] for v in lm.ravel().astype(int)), y="".join("01"[v] for v in ly.ravel().astype(int))))
(pathlib.Path(__file__).parent / "golden.json").write_text(json.dumps(cases, separators=(",", ":")))
