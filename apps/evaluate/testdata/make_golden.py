"""Writes golden.json: Kendall's tau-b and percentile bootstrap intervals by SciPy. Needs numpy and scipy."""
import json, pathlib
import numpy as np
from scipy.stats import bootstrap, kendalltau

rng = np.random.default_rng(5)
orders = []
for n in (3, 5, 6, 9):
    a, b = rng.integers(0, n, n).astype(float), rng.standard_normal(n).round(1)
    orders.append(dict(a=a.tolist(), b=b.tolist(), tau=float(kendalltau(a, b).statistic)))
savings = []
for n in (6, 15, 40):
    before = rng.gamma(4, 1, n).round(3)
    now = (before * rng.uniform(0.3, 1.1, n)).round(3)
    ci = bootstrap((now, before), lambda x, y: 1 - x.sum() / y.sum(), paired=True, vectorized=False,
                   method="percentile", n_resamples=20000, random_state=1).confidence_interval
    savings.append(dict(now=now.tolist(), before=before.tolist(), saved=float(1 - now.sum() / before.sum()), low=float(ci.low), high=float(ci.high)))
(pathlib.Path(__file__).parent / "golden.json").write_text(json.dumps(dict(orders=orders, savings=savings), separators=(",", ":")) + "\n")
