"""Makes references.json: what OpenJPEG and dcmtk make of the shared images that have no uncompressed twin, or a lossy coding.

Run: python make_references.py /folder/of/shared/data   (needs numpy, pydicom, imagecodecs, and dcmdjpeg of dcmtk)
"""
import glob, hashlib, json, os, subprocess, sys, tempfile

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import generate_frames

ROOT = sys.argv[1]
STRIDE = 499  # a prime: every so many samples are kept of a lossy image
out = []
for name in sorted(glob.glob("dicom/ct_abdomen_siemens_j2k/series/*", root_dir=ROOT) + glob.glob("dicom/codecs_wg04/*/*_J2KI.dcm", root_dir=ROOT)) + [
        "dicom/codecs_wg04/MR1/MR1_JPLY.dcm", "robustness/pydicom/JPEG-lossy.dcm"]:
    file = os.path.join(ROOT, name)
    d = pydicom.dcmread(file)
    if "2.4.9" in d.file_meta.TransferSyntaxUID:
        a = imagecodecs.jpeg2k_decode(next(generate_frames(d.PixelData, number_of_frames=1)))
    else:
        with tempfile.TemporaryDirectory() as t:
            subprocess.run(["dcmdjpeg", file, os.path.join(t, "o.dcm")], check=True)
            a = np.frombuffer(pydicom.dcmread(os.path.join(t, "o.dcm")).PixelData, "<u2")
    a = a.astype("<i4").ravel()
    entry = dict(file=name)
    if name.endswith("_J2KI.dcm"):
        entry.update(stride=STRIDE, samples=a[::STRIDE].tolist(), tolerance=1)
    else:
        entry.update(sha256=hashlib.sha256(a.tobytes()).hexdigest())
    out.append(entry)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "references.json"), "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(e) for e in out) + "\n]\n")
