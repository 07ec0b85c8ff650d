"""Writes golden.json: overlap and surface distances of small masks, from SimpleITK and from scipy's distances. Needs numpy, scipy, SimpleITK.

Dice is SimpleITK's. The surface figures follow the definitions in the package's documentation, written down here once more with
scipy: boundary = mask minus its erosion, distances between boundary voxels, the larger of both directions' percentiles.
"""
import json, pathlib
import numpy as np, SimpleITK as sitk
from scipy import ndimage as ndi

rng = np.random.default_rng(11)
bits = lambda a: "".join("1" if v else "0" for v in np.asarray(a, bool).ravel())


def blob(shape, centre, radii):
    g = np.indices(shape)
    d = sum(((g[i] - centre[i]) / radii[i]) ** 2 for i in range(len(shape)))
    return d + ndi.gaussian_filter(rng.standard_normal(shape), 1) < 1


def case(a, b, spacing):
    squeeze = a.shape[0] == 1
    a_, b_, s = (a[0], b[0], spacing[:2]) if squeeze else (a, b, spacing)
    edge = lambda m: m & ~ndi.binary_erosion(m)
    ea, eb = edge(a_), edge(b_)
    ab = ndi.distance_transform_edt(~eb, sampling=s[::-1])[ea]
    ba = ndi.distance_transform_edt(~ea, sampling=s[::-1])[eb]
    image = lambda m: sitk.GetImageFromArray(m.astype(np.uint8))
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(image(a_), image(b_))
    return dict(
        size=list(a.shape[::-1]), spacing=spacing, a=bits(a), b=bits(b), dice=overlap.GetDiceCoefficient(1),
        hausdorff=max(ab.max(), ba.max()), hausdorff95=max(np.percentile(ab, 95), np.percentile(ba, 95)),
        mean=(ab.sum() + ba.sum()) / (len(ab) + len(ba)),
        surface={str(t): float(((ab <= t).sum() + (ba <= t).sum()) / (len(ab) + len(ba))) for t in (.5, 1.3, 2.1, 4.3)},
    )


cases = [
    case(blob((12, 20, 18), (6, 10, 9), (4, 7, 6)), blob((12, 20, 18), (5, 9, 10), (4, 6, 7)), [.8, .9, 2.5]),
    case(blob((10, 12, 14), (3, 3, 4), (3, 3, 3)), blob((10, 12, 14), (7, 8, 10), (3, 4, 4)), [1., 1., 1.]),
    case(blob((1, 30, 26), (0, 15, 13), (1, 9, 8)), blob((1, 30, 26), (0, 13, 12), (1, 9, 9)), [.7, 1.1, 3.]),
    case(blob((1, 30, 26), (0, 1, 1), (1, 9, 8)), blob((1, 30, 26), (0, 3, 2), (1, 9, 9)), [1., 1., 3.]),
]
(pathlib.Path(__file__).parent / "golden.json").write_text(json.dumps(cases, separators=(",", ":")))
