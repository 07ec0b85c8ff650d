"""Writes golden.json: random flow networks over small volumes, with their maximum flows by SciPy. Needs numpy and scipy."""
import json, pathlib
import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

rng = np.random.default_rng(3)
cases = []
for n, size in enumerate([(1, 1, 1), (7, 1, 1), (1, 6, 1), (1, 1, 5), (5, 4, 1), (1, 4, 5), (4, 1, 4), (4, 3, 3), (5, 4, 3), (3, 5, 4), (8, 7, 1), (6, 5, 4),
                          (6, 6, 6), (9, 8, 2)]):
    for top in (3, 50):
        w, h, d = size
        voxels = w * h * d
        at = np.arange(voxels).reshape(d, h, w)
        terminal = rng.integers(-top, top + 1, voxels)
        if n % 3 == 0:  # most voxels have no link to a terminal
            terminal[rng.random(voxels) < 0.7] = 0
        source, sink = voxels, voxels + 1
        rows, columns, capacities, links = [], [], [], []
        for axis, (a, b) in enumerate([(at[:, :, :-1], at[:, :, 1:]), (at[:, :-1], at[:, 1:]), (at[:-1], at[1:])]):
            for u, v in zip(a.ravel(), b.ravel()):
                there, back = rng.integers(0, top + 1, 2)
                if rng.random() < 0.2:
                    there = 0
                links.append([int(u), axis, int(there), int(back)])
                rows += [u, v]; columns += [v, u]; capacities += [there, back]
        for v, t in enumerate(terminal):
            rows.append(source if t > 0 else v); columns.append(v if t > 0 else sink); capacities.append(abs(t))
        m = csr_matrix((np.array(capacities, np.int32), (rows, columns)), shape=(voxels + 2, voxels + 2))
        cases.append(dict(size=size, terminal=terminal.tolist(), links=links, flow=int(maximum_flow(m, source, sink).flow_value)))
(pathlib.Path(__file__).parent / "golden.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
