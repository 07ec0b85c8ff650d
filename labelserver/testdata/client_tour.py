"""Drives a running server with the unmodified Python client of MONAI Label, as a Slicer user would, and prints one JSON line.

usage: client_tour.py SERVER IMAGE SCRIBBLES NEXT_SCRIBBLES LABEL_INFO LABEL
IMAGE is a volume on disk that the server does not have; SCRIBBLES and NEXT_SCRIBBLES are label maps on the grid of the
datastore's first image, the second with one more stroke; LABEL_INFO is the JSON of the request parameter label_info. LABEL is a finished label
of that image, liver 1 and spleen 2.
"""
import json
import os
import sys
import tempfile
import time

import requests

from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

server, image, scribbles, more, label_info, finished = sys.argv[1:7]
tmp = tempfile.mkdtemp()
client = MONAILabelClient(server, tmpdir=tmp, client_id="tour")
out = {}


def params():
    return {
        "label_info": json.loads(label_info), "selected_label_name": "liver", "roi": [],
        "result_extension": ".nrrd", "result_dtype": "uint8",
    }


def read(path):
    with open(path, "rb") as f:
        head, _, data = f.read().partition(b"\n\n")
    return head.decode("latin-1").splitlines(), data


info = client.info()
out["models"] = list(info["models"])
out["labels"] = info["labels"]
out["config"] = "config" in info
out["train_running"] = client.train_status(check_if_running=True)

sample = client.next_sample("first", {})
out["sample"] = sample["id"]
out["name"] = sample["name"]

answers = []
for mask in (scribbles, more, scribbles):
    path, result = client.infer("scribbles", sample["id"], params(), label_in=mask)
    head, data = read(path)
    answers.append(data)
    out.setdefault("heads", []).append(head)
    out.setdefault("names", []).append(result["label_names"])
    out.setdefault("sizes", []).append(len(data))
    out.setdefault("voxels", []).append(sum(1 for v in data if v))
    out.setdefault("values", []).append(sorted(set(data)))
    out.setdefault("undone", []).append(result["scrawl"]["undone"])
out["rolled_back"] = answers[0] == answers[2]

# Points as Slicer's SmartEdit sends them: deepgrow for one segment, in the volume and on one slice, deepedit for several.
def label_at(head, data, point):
    size = [int(n) for n in next(line for line in head if line.startswith("sizes:")).split()[1:]]
    return data[point[0] + size[0] * (point[1] + size[1] * point[2])]


def clicks(model, **points):
    path, result = client.infer(model, sample["id"], dict({"label": "liver", "result_extension": ".nrrd", "result_dtype": "uint8"}, **points))
    head, data = read(path)
    return head, data, result


one, two, beside = [10, 12, 4], [14, 20, 6], [30, 5, 4]
grown = [clicks("deepgrow", foreground=f, background=[beside]) for f in ([one], [one, two], [one])]
out["grown"] = [sum(1 for v in data if v) for _, data, _ in grown[:2]]
out["clicked"] = [label_at(*grown[1][:2], p) for p in (one, two, beside)]
out["grown_back"] = grown[0][1] == grown[2][1]
head, data, _ = clicks("deepgrow_2d", foreground=[one], background=[], slice=4)
area = len(data) // 9
out["flat_slices"] = [k for k in range(9) if any(data[k * area:(k + 1) * area])]
head, data, result = clicks("deepedit", liver=[one], spleen=[two], background=[beside])
out["edited"] = [label_at(head, data, p) for p in (one, two, beside)]
out["edit_names"] = result["label_names"]
try:
    clicks("deepgrow", foreground=[[400, -3, 4]], background=[])
    out["outside"] = "accepted"
except MONAILabelClientException as e:
    out["outside"] = 400 if "Status: 400" in str(e) else str(e)
path, result = client.infer("organs", sample["id"], {"result_extension": ".nrrd", "result_dtype": "uint8"})
out["auto_names"] = result["label_names"]
out["auto_values"] = sorted(set(read(path)[1]))
out["strategies"] = list(info["strategies"])
out["ranked"] = client.next_sample("organs_epistemic", {})
out["slides"] = json.loads(client.wsi_infer("organs", sample["id"], {"params": {}}, output="json")[1])

session = client.create_session(image)["session_id"]
out["session"] = client.get_session(session)["session_id"] == session if "session_id" in client.get_session(session) else bool(client.get_session(session))
path, _ = client.infer("scribbles", "no such image", params(), label_in=scribbles, session_id=session)
out["session_voxels"] = sum(1 for v in read(path)[1] if v)
client.remove_session(session)
try:
    client.get_session(session)
    out["session_gone"] = False
except MONAILabelClientException as e:
    out["session_gone"] = e.status_code == 404

out["uploaded"] = client.upload_image(image, "My Volume 1+2")["image"]
saved = client.save_label(sample["id"], scribbles, tag="", params={"label_info": json.loads(label_info)})
out["saved"] = saved
label = client.download_label(sample["id"], "final")
out["label_equal"] = open(label, "rb").read() == open(scribbles, "rb").read()
out["objects"] = {k: sorted(v["labels"]) for k, v in client.datastore()["objects"].items()}
out["completed"] = client.info()["datastore"]["completed"]

# Training as the button in Slicer does it: start, look, stop; and once to its end. Then all images answered, and scored.
client.save_label(sample["id"], finished, tag="", params={"label_info": [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}]})
out["trainers"] = list(info["trainers"])
options = {k: v[0] if isinstance(v, list) else v for k, v in info["trainers"]["scribbles"]["config"].items()}
started = client.train_start("scribbles", dict(options, max_epochs=5000, early_stop_patience=-1))
out["train_started"] = [started["status"], client.train_status(check_if_running=True)]
stopped = client.train_stop()
out["train_stopped"] = [stopped["status"], stopped["id"] == started["id"], len(stopped["details"]) > 0, client.train_status(check_if_running=True)]
client.train_start("scribbles", dict(options, max_epochs=1, val_split=0.0))
for _ in range(600):
    if not client.train_status(check_if_running=True):
        break
    time.sleep(0.1)
out["train_done"] = client.train_status()["status"]
out["train_stats"] = client.info()["train_stats"]["scribbles"]
out["train_stop_none"] = client.train_stop()
batch = requests.post(server + "/batch/infer/organs?images=all&run_sync=true")
out["batch"] = [batch.status_code, sorted(batch.json())]
scores = requests.post(server + "/scoring/dice?run_sync=true")
out["scores"] = [scores.status_code, list(scores.json())]

try:
    client.infer("no_such_model", sample["id"], params(), label_in=scribbles)
    out["unknown_model"] = "accepted"
except MONAILabelClientException as e:
    out["unknown_model"] = 404 if "Status: 404" in str(e) else str(e)
print(json.dumps(out))
