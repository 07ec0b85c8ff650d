"""Checks written.zip, which `go test ./adapters/rtstruct -run Written -update` makes: pydicom reads the structure sets, scikit-image
fills their contours, and dciodvfy (Debian dicom3tools) validates them where it is installed.

Run: python check_written.py
"""
import io, json, os, shutil, subprocess, tempfile, zipfile

import numpy as np
import pydicom
from skimage.measure import points_in_poly

HERE = os.path.dirname(os.path.abspath(__file__))
series = zipfile.ZipFile(os.path.join(HERE, "..", "..", "dicom", "dicomtest", "golden.zip"))
written = zipfile.ZipFile(os.path.join(HERE, "written.zip"))
validator = shutil.which("dciodvfy")
for want in json.loads(written.read("expect.json")):
    data = written.read(want["file"])
    d = pydicom.dcmread(io.BytesIO(data))
    labels = np.array(want["labels"]).reshape(want["size"][::-1])
    images = {}
    for n in series.namelist():
        if n.startswith(want["series"] + "/"):
            i = pydicom.dcmread(io.BytesIO(series.read(n)))
            images[i.SOPInstanceUID] = i
    assert [r.ROIName for r in d.StructureSetROISequence] == want["names"], want["file"]
    assert {i.ReferencedSOPInstanceUID for i in d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence} == set(images)
    got = np.zeros_like(labels)
    for r, c in zip(d.StructureSetROISequence, d.ROIContourSequence):
        assert r.ROINumber == c.ReferencedROINumber
        label = want["numbers"][r.ROINumber - 1]
        inside = np.zeros(labels.shape, int)
        for item in c.get("ContourSequence", []):
            ref = item.ContourImageSequence[0]
            image = images[ref.ReferencedSOPInstanceUID]
            k = want["instances"].index([ref.ReferencedSOPInstanceUID, ref.get("ReferencedFrameNumber", 1)])
            if "ImagePositionPatient" in image:
                plane = orientation = measures = image
            else:
                plane = image.PerFrameFunctionalGroupsSequence[ref.ReferencedFrameNumber - 1].PlanePositionSequence[0]
                orientation = image.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
                measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
            row, col = np.array(orientation.ImageOrientationPatient[:3], float), np.array(orientation.ImageOrientationPatient[3:], float)
            points = np.array(item.ContourData, float).reshape(-1, 3)
            assert len(points) == item.NumberOfContourPoints
            offset = points - np.array(plane.ImagePositionPatient, float)
            assert abs(offset @ np.cross(row, col)).max() < 2e-3, "a contour is in the plane of its image"
            xy = np.stack([offset @ row / measures.PixelSpacing[1], offset @ col / measures.PixelSpacing[0]], -1)
            jj, ii = np.mgrid[: labels.shape[1], : labels.shape[2]]
            inside[k] ^= points_in_poly(np.stack([ii.ravel(), jj.ravel()], -1), xy).reshape(ii.shape)
        got[inside == 1] = label
    np.testing.assert_array_equal(got, labels, want["file"])
    if validator:
        with tempfile.NamedTemporaryFile(suffix=".dcm") as t:
            t.write(data)
            t.flush()
            out = subprocess.run([validator, "-new", t.name], capture_output=True, text=True).stderr
            errors = [l for l in out.splitlines() if l.startswith("Error")]
            assert not errors, (want["file"], errors)
    print("ok", want["file"])
