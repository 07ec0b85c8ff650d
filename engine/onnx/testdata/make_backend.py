#!/usr/bin/env python3
"""Makes backend.json.gz: ONNX's own backend node tests (onnx.backend.test.case.node, Apache-2.0) of the operators that Scrawl claims.

    python make_backend.py OPERATOR ...        # the names that `go test ./engine/onnx -run TestBackendOperators -v` prints

Needs onnx and numpy (made with onnx 1.23.2). Left out are cases with types that no tensor here has (half precision, strings, sequences …), cases of
the preview domain and those above 100 kB. A case whose opset is newer than 26 has only operators that widened their types since, and is written with 26.
Form: {"tensors": [{"shape", "type", "data"}], "cases": [{"name", "model", "inputs": {name: index into tensors}, "outputs": …, "rtol", "atol"}]}, data in
little-endian base64, each tensor once.
"""
import base64
import gzip
import json
import pathlib
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402

TYPES = {"float32": "<f4", "float64": "<f8", "int64": "<i8", "int32": "<i4", "bool": "u1"}
MAX_OPSET = 26


def plain(graph):
    for n in graph.node:
        yield n
        for a in n.attribute:
            if a.HasField("g"):
                yield from plain(a.g)


def main(operators):
    tensors, index, cases = [], {}, []

    def put(a):
        a = np.asarray(a, order="C")
        data = a.astype(TYPES[str(a.dtype)]).tobytes(order="C")
        key = (str(a.dtype), a.shape, data)
        if key not in index:
            index[key] = len(tensors)
            tensors.append({"shape": list(a.shape), "type": str(a.dtype), "data": base64.b64encode(data).decode()})
        return index[key]

    for t in collect_testcases(None):
        m = t.model
        used = {n.op_type for n in plain(m.graph)}
        if not used <= operators or any(o.domain not in ("", "ai.onnx") for o in m.opset_import) or any(n.domain for n in plain(m.graph)):
            continue
        ins, outs = t.data_sets[0]
        if not all(isinstance(a, (np.ndarray, np.generic)) and str(np.asarray(a).dtype) in TYPES for a in [*ins, *outs]):
            continue
        ins, outs = [np.asarray(a) for a in ins], [np.asarray(a) for a in outs]
        if m.ByteSize() + sum(a.nbytes for a in ins + outs) > 100_000:
            continue
        if any(o.version < 7 for o in m.opset_import):
            continue
        for o in m.opset_import:
            o.version = min(o.version, MAX_OPSET)
        names_in = [v.name for v in m.graph.input]
        cases.append({"name": t.name, "model": base64.b64encode(m.SerializeToString()).decode(), "inputs": {k: put(a) for k, a in zip(names_in, ins)},
                      "outputs": {v.name: put(a) for v, a in zip(m.graph.output, outs)}, "rtol": t.rtol, "atol": t.atol})
    data = gzip.compress(json.dumps({"tensors": tensors, "cases": cases}, separators=(",", ":")).encode(), 9, mtime=0)
    (pathlib.Path(__file__).parent / "backend.json.gz").write_bytes(data)
    print(len(cases), "cases,", len(data), "bytes")


if __name__ == "__main__":
    main(set(sys.argv[1:]))
