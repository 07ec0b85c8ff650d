"""Makes golden.zip: segmentations by highdicom of small series (../../dicom/dicomtest/golden.zip), and expect.json with the labels
that each has on its series' grid.

Run: python make_golden.py   (needs numpy, pydicom, highdicom; identifiers differ from run to run, labels do not)
"""
import io, json, os, zipfile

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.uid import RLELossless

HERE = os.path.dirname(os.path.abspath(__file__))
random = np.random.default_rng(11)
series = zipfile.ZipFile(os.path.join(HERE, "..", "..", "dicom", "dicomtest", "golden.zip"))
files, expect = {}, []


def source(folder):
    images = [pydicom.dcmread(io.BytesIO(series.read(n))) for n in series.namelist() if n.startswith(folder + "/")]
    for d in images:
        for name in ("PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
            if name not in d:
                setattr(d, name, "")
    if len(images) > 1:
        normal = np.cross(images[0].ImageOrientationPatient[:3], images[0].ImageOrientationPatient[3:])
        images.sort(key=lambda d: np.dot(d.ImagePositionPatient, normal))
    return images


def segment(n, name, kind):
    return hd.seg.SegmentDescription(
        n, name, codes.SCT.AnatomicalStructure, kind, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        hd.AlgorithmIdentificationSequence("net", codes.DCM.ArtificialIntelligence, "1"),
        display_color=hd.color.CIELabColor.from_rgb(255, 128, 0) if n == 1 else None)


SEGMENTS = [segment(1, "Leber äöü", codes.SCT.Liver), segment(2, "spleen", codes.SCT.Spleen), segment(3, "left kidney", codes.SCT.Kidney)]


def add(name, folder, pixels, kind, labels, segments=SEGMENTS, **how):
    images = how.pop("images", None) or source(folder)
    seg = hd.seg.Segmentation(
        source_images=images, pixel_array=pixels, segmentation_type=kind, segment_descriptions=segments, series_instance_uid=hd.UID(),
        series_number=9, sop_instance_uid=hd.UID(), instance_number=1, manufacturer="m", manufacturer_model_name="n", software_versions="1",
        device_serial_number="1", content_label="GOLDEN", **how)
    b = io.BytesIO()
    seg.save_as(b)
    files[name + ".dcm"] = b.getvalue()
    expect.append(dict(file=name + ".dcm", series=folder, labels=np.asarray(labels).ravel().tolist(), kind=kind))


def blobs(shape):
    a = random.integers(0, 4, shape).astype("uint8")
    a[1] = 0  # a slice without any
    a[2][a[2] == 2] = 0
    return a


for folder in ("axial", "descending", "oblique", "tilted", "gap", "big_endian"):
    a = blobs((4, 5, 6))
    add("binary_" + folder, folder, a, "BINARY", a)
    a = blobs((4, 5, 6))
    add("labelmap_" + folder, folder, a, "LABELMAP", a)
a = blobs((4, 5, 6))
add("all_frames", "oblique", a, "BINARY", a, omit_empty_frames=False)
one = (blobs((4, 5, 6)) > 1).astype("uint8")
add("one_segment", "sagittal", one, "BINARY", one, segments=SEGMENTS[:1])

p = random.random((4, 5, 6, 3)).astype("float32")
p[p.argsort(-1).argsort(-1) < 2] *= 0.45  # at most one segment above one half
p = np.round(p * 255) / 255
labels = np.where(p.max(-1) * 255 >= 127.5, p.argmax(-1) + 1, 0)
add("fractional", "oblique", p, "FRACTIONAL", labels, fractional_type="PROBABILITY")
add("fractional_rle", "oblique", p, "FRACTIONAL", labels, fractional_type="PROBABILITY", transfer_syntax_uid=RLELossless)
add("labelmap_rle", "axial", a, "LABELMAP", a, transfer_syntax_uid=RLELossless)

stack = random.integers(0, 2, (4, 5, 6, 3)).astype("uint8")
top = np.where(stack[..., 2], 3, np.where(stack[..., 1], 2, stack[..., 0]))
add("overlapping", "axial", stack, "BINARY", top)
expect[-1]["overlapping"] = int((stack.sum(-1) > 1).sum())

# 16-bit numbers, and names of numbers that are not in order.
wide = np.where(a == 1, 700, np.where(a == 2, 3, np.where(a == 3, 299, 0))).astype("uint16")
add("labelmap_wide", "axial", wide, "LABELMAP", wide, segments=[segment(3, "three", codes.SCT.Spleen), segment(299, "many", codes.SCT.Liver), segment(700, "more", codes.SCT.Kidney)])

with zipfile.ZipFile(os.path.join(HERE, "golden.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
    for name, data in {**files, "expect.json": json.dumps(expect)}.items():
        z.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)
