"""Writes indexes as MONAI Label's local datastore does: json.dumps with an indent of 2, members in its order.

uploads:     images and labels put over REST, with several tags, a .bin label and a DICOM file
predictions: a model's answers stored as labels, with nested floats
odd:         text beyond ASCII, members that only other versions know, numbers of all kinds, NaN
"""
import json
import pathlib

here = pathlib.Path(__file__).parent
T = 1800000000


def file(ext, **info):
    return {"ext": ext, "info": info}


def found(id, ext=".nii.gz", at=T, **more):
    """A file that was found in the folder."""
    return file(ext, ts=at, name=id + ext, **more)


def case(image, **labels):
    return {"image": image, "labels": labels}


def index(objects):
    return {"name": "new-dataset", "description": "New Dataset", "images_dir": ".", "labels_dir": "labels", "objects": objects}


def write(name, value):
    (here / name).write_text(json.dumps(value, indent=2))


served = {"random": {"ts": T + 60, "client_id": "user-one"}, "first": {"ts": T + 61, "client_id": "admin"}}
case_0 = case(found("case_0"), final=found("case_0", sum=420, slices=7))
status = {"status": "approved", "level": "hard", "approvedBy": "y", "comment": "", "editTime": ""}

write("uploads.json", index({
    "case_1": case(found("case_1", strategy=served)),
    "case_0": case_0,
    "up1": case(
        file(".nii.gz", client_id="user-one", user="admin", ts=T + 90, name="up1.nii.gz", foo=1),
        final=file(".nii.gz", label_info=[{"name": "liver", "idx": 1}], model="m", client_id="user-one", ts=T + 91, name="up1.nii.gz"),
        v1=file(".nrrd", ts=T + 92, name="up1.nrrd", bar=2, user="admin", segmentationMeta=status),
        bin=file(".bin", ts=T + 93, name="up1.bin")),
    "my": case(file(".nii.gz", user="admin", ts=T + 94, name="my.nii.gz")),
    "dcm1": case(file(".dcm", user="admin", ts=T + 95, name="dcm1.dcm")),
}))

latencies = {"pre": 0.25, "infer": 3.0, "total": 4.5, "transform": {"pre": {"LoadImaged": 0.0125}, "post": {"Restored": 0.0001}}}
answer = {"label_names": {"liver": 1}, "latencies": latencies, "centroids": {}}
write("predictions.json", index({
    "case_1": case(
        found("case_1", strategy=served),
        seg=found("case_1", ".nrrd", T + 120),
        original=file(".nii.gz", model="m", params=answer, ts=T + 130, name="case_1.nii.gz")),
    "case_0": case_0,
    "ext1": case(found("ext1", at=T + 140), final=found("ext1", at=T + 141, sum=420, slices=7), v9=found("ext1", at=T + 142)),
}))

odd = index({
    "case_1": case(found("case_1")),
    "case_0": case(
        found("case_0", score=1.0, tiny=1e-09, big=12345678901234567890, text='µ "quoted" \\ /', epistemic_entropy=float("nan"),
              range=[float("-inf"), float("inf"), "NaN Infinity"]),
        final=found("case_0")) | {"review": {"by": [], "notes": {}}},
})
odd["name"] = "Schädel \U0001f9e0"
odd["license"] = "CC-BY"
odd["objects"]["case_0"]["image"]["checksum"] = "abc"
write("odd.json", odd)
