"""Writes golden.json: organ-like regions and their skeletons by scikit-image. Needs numpy, scipy and scikit-image."""
import json, pathlib
import numpy as np
from scipy import ndimage as ndi
from skimage.morphology import skeletonize

rng = np.random.default_rng(2)
bits = lambda a: "".join("1" if v else "0" for v in a.ravel())
cases = []
for h, w, wide in [(40, 60, 4), (50, 50, 6), (30, 70, 3)]:
    x = np.arange(6, w - 6)
    y = h / 2 + h / 5 * np.sin(x / w * 5 + rng.uniform(0, 3))
    m = np.ones((h, w), bool)
    m[y.astype(int), x] = False
    m = ndi.distance_transform_edt(m) <= wide + ndi.gaussian_filter(rng.standard_normal((h, w)), 4) * 3
    cases.append(dict(w=w, h=h, bits=bits(m), skeleton=bits(skeletonize(m))))
(pathlib.Path(__file__).parent / "golden.json").write_text(json.dumps(cases, separators=(",", ":")))
