"""Makes golden.zip: structure sets by pydicom for the small series of ../../dicom/dicomtest/golden.zip, with contours by scikit-image,
holes being contours of their own, and expect.json with the labels they stand for.

Run: python make_golden.py   (needs numpy, pydicom, scikit-image; the output does not depend on the time)
"""
import io, json, os, zipfile

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from skimage.measure import find_contours

HERE = os.path.dirname(os.path.abspath(__file__))
random = np.random.default_rng(5)
series = zipfile.ZipFile(os.path.join(HERE, "..", "..", "dicom", "dicomtest", "golden.zip"))
files, expect = {}, []


def source(folder):
    images = [pydicom.dcmread(io.BytesIO(series.read(n))) for n in series.namelist() if n.startswith(folder + "/")]
    normal = np.cross(images[0].ImageOrientationPatient[:3], images[0].ImageOrientationPatient[3:])
    return sorted(images, key=lambda d: np.dot(d.ImagePositionPatient, normal))


def add(name, folder, labels, implicit=False):
    images = source(folder)
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID, d.Modality = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid(entropy_srcs=[name]), "RTSTRUCT"
    d.SpecificCharacterSet, d.SeriesInstanceUID, d.StudyInstanceUID = "ISO_IR 192", generate_uid(entropy_srcs=[name, "s"]), images[0].StudyInstanceUID
    frame, study, ref = Dataset(), Dataset(), Dataset()
    ref.SeriesInstanceUID = images[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence, frame.FrameOfReferenceUID = [ref], images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    d.ReferencedFrameOfReferenceSequence = [frame]
    d.StructureSetROISequence, d.ROIContourSequence = [], []
    for n in range(1, int(labels.max()) + 1):
        roi, contour = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = 10 * n, f"Größe {n}", "MANUAL"
        contour.ReferencedROINumber, contour.ROIDisplayColor, contour.ContourSequence = 10 * n, [255, 128, 0], []
        for k, image in enumerate(images):
            row, col = np.array(image.ImageOrientationPatient[:3], float), np.array(image.ImageOrientationPatient[3:], float)
            mask = np.pad(labels[k] == n, 1)
            for c in find_contours(mask.astype(float), 0.5):
                c = c[:-1] - 1  # without the padding and the repeated end
                points = np.array(image.ImagePositionPatient, float) + np.outer(c[:, 1] * image.PixelSpacing[1], row) + np.outer(c[:, 0] * image.PixelSpacing[0], col)
                item = Dataset()
                item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
                item.ContourData = [f"{v:.6f}" for v in points.ravel()]
                contour.ContourSequence.append(item)
        point = Dataset()
        point.ContourGeometricType, point.NumberOfContourPoints, point.ContourData = "POINT", 1, ["1", "2", "3"]
        contour.ContourSequence.append(point)
        d.StructureSetROISequence.append(roi)
        d.ROIContourSequence.append(contour)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian, "1.2.3"
    d.file_meta = meta
    b = io.BytesIO()
    d.save_as(b, enforce_file_format=True)
    files[name] = b.getvalue()
    expect.append(dict(file=name, series=folder, labels=labels.ravel().tolist()))


for folder in ("axial", "descending", "oblique", "tilted", "gap", "sagittal"):
    labels = random.integers(0, 4, (4, 5, 6)).astype("uint8")
    labels[1] = 0
    labels[2][1:4, 1:5] = 1
    labels[2][2, 2:4] = 0  # a hole
    add(folder + ".dcm", folder, labels, implicit=folder == "oblique")

with zipfile.ZipFile(os.path.join(HERE, "golden.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
    for name, data in {**files, "expect.json": json.dumps(expect)}.items():
        z.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)
