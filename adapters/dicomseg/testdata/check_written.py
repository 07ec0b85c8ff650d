"""Checks written.zip, which `go test ./adapters/dicomseg -run Written -update` makes, with highdicom against the source series, and
with dciodvfy (Debian dicom3tools) where that is installed.

Run: python check_written.py
"""
import io, json, os, shutil, subprocess, tempfile, zipfile

import highdicom as hd
import numpy as np
import pydicom

HERE = os.path.dirname(os.path.abspath(__file__))
series = zipfile.ZipFile(os.path.join(HERE, "..", "..", "dicom", "dicomtest", "golden.zip"))
written = zipfile.ZipFile(os.path.join(HERE, "written.zip"))
validator = shutil.which("dciodvfy")
for want in json.loads(written.read("expect.json")):
    data = written.read(want["file"])
    d = pydicom.dcmread(io.BytesIO(data))
    images = [pydicom.dcmread(io.BytesIO(series.read(n))) for n in series.namelist() if n.startswith(want["series"] + "/")]
    images = [i for i in images if "LOCALIZER" not in i.get("ImageType", [])]
    if len(images) > 1:
        normal = np.cross(images[0].ImageOrientationPatient[:3], images[0].ImageOrientationPatient[3:])
        images.sort(key=lambda i: np.dot(i.ImagePositionPatient, normal))
    labels = np.array(want["labels"], "uint16").reshape(want["size"][::-1])
    seg = hd.seg.Segmentation.from_dataset(d)
    assert seg.segmentation_type.value == want["kind"], want["file"]
    numbers = seg.segment_numbers
    assert [seg.get_segment_description(n).segment_label for n in numbers] == want["names"], want["file"]
    if want["kind"] == "LABELMAP":
        assert list(numbers) == want["numbers"]
    else:
        assert list(numbers) == list(range(1, len(numbers) + 1))
    uids = [i.SOPInstanceUID for i in images]
    got = {}
    if d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing and len(images) == labels.shape[0]:
        kept = [u for u, l in zip(uids, labels) if l.any()]
        assert {i.ReferencedSOPInstanceUID for i in d.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == set(uids), want["file"]
        pixels = seg.get_pixels_by_source_instance(uids, combine_segments=True, relabel=False, assert_missing_frames_are_empty=True)
    else:
        pixels = seg.get_pixels_by_source_frame(uids[0], want["frames"], combine_segments=True, relabel=False, assert_missing_frames_are_empty=True)
    table = np.zeros(65536, "uint16")
    for n, number in zip(numbers, want["numbers"]):
        table[n] = number
    np.testing.assert_array_equal(table[pixels], labels, want["file"])
    # Each frame lies where its source does.
    for f in d.PerFrameFunctionalGroupsSequence:
        ref = f.DerivationImageSequence[0].SourceImageSequence[0]
        src = next(i for i in images if i.SOPInstanceUID == ref.ReferencedSOPInstanceUID)
        place = src if "ImagePositionPatient" in src else src.PerFrameFunctionalGroupsSequence[ref.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        np.testing.assert_allclose(f.PlanePositionSequence[0].ImagePositionPatient, place.ImagePositionPatient, atol=1e-6)
    if "StudyInstanceUID" in images[0]:
        for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
            assert d[name].value == images[0][name].value, (want["file"], name)
    if validator and want["kind"] == "BINARY":  # it does not know label maps
        with tempfile.NamedTemporaryFile(suffix=".dcm") as t:
            t.write(data)
            t.flush()
            out = subprocess.run([validator, "-new", t.name], capture_output=True, text=True).stderr
            errors = [l for l in out.splitlines() if l.startswith("Error")]
            assert not errors, (want["file"], errors)
    print("ok", want["file"], len(d.PerFrameFunctionalGroupsSequence), "frames")
