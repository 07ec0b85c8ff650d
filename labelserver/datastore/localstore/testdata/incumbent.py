"""Drives the datastore of the real monailabel package, so that a test can hand one folder to and fro.

usage: incumbent.py FOLDER < COMMANDS
Each line of COMMANDS is a JSON list: a name of the functions below and its arguments. Each is answered by one line of JSON. torch and
monai, which the package imports and the datastore does not use, are stood in for.
"""
import json
import sys
from unittest.mock import MagicMock

for name in ("torch", "monai", "monai.apps", "monai.bundle", "monai.bundle.scripts", "distutils", "distutils.util"):
    try:
        if not name.startswith("distutils"):
            raise ImportError
        __import__(name)
    except ImportError:
        sys.modules[name] = MagicMock()

from monailabel.datastore.local import LocalDatastore

store = LocalDatastore(sys.argv[1], extensions=("*.nii.gz", "*.nii", "*.nrrd", "*.png"), auto_reload=False)


def add_image(id, path, info):
    return store.add_image(id, path, info)


def save_label(id, path, tag, info):
    return store.save_label(id, path, tag, info)


def image_info(id, info):
    store.update_image_info(id, info)


def label_info(id, tag, info):
    store.update_label_info(id, tag, info)


def remove_image(id):
    store.remove_image(id)


def remove_label(id, tag):
    store.remove_label(id, tag)


def notice():
    """What its watcher does when the index was written by somebody else; the incumbent does not look before it writes."""
    store._init_from_datastore_file()


def state():
    store.refresh()
    images = store.list_images()
    return {
        "images": sorted(images),
        "labelled": sorted(store.get_labeled_images()),
        "unlabelled": sorted(store.get_unlabeled_images()),
        "infos": {i: store.get_image_info(i) for i in images},
        "labels": {i: {t: [open(store.get_label_uri(i, t), "rb").read().decode(), store.get_label_info(i, t)]
                       for t in tags(i)} for i in images},
        "files": {i: open(store.get_image_uri(i), "rb").read().decode() for i in images},
    }


def tags(id):
    return sorted(store.json()["objects"][id]["labels"])


for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(globals()[name](*arguments)), flush=True)
