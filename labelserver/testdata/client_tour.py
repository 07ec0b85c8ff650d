"""Drives a running server with the unmodified Python client of MONAI Label, as a Slicer user would, and prints one JSON line.

usage: client_tour.py SERVER IMAGE SCRIBBLES NEXT_SCRIBBLES LABEL_INFO
IMAGE is a volume on disk that the server does not have; SCRIBBLES and NEXT_SCRIBBLES are label maps on the grid of the
datastore's first image, the second with one more stroke; LABEL_INFO is the JSON of the request parameter label_info.
"""
import json
import os
import sys
import tempfile

from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

server, image, scribbles, more, label_info = sys.argv[1:6]
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

try:
    client.infer("no_such_model", sample["id"], params(), label_in=scribbles)
    out["unknown_model"] = "accepted"
except MONAILabelClientException as e:
    out["unknown_model"] = 404 if "Status: 404" in str(e) else str(e)
print(json.dumps(out))
