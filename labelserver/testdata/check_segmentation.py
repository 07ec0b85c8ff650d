"""Reads a DICOM segmentation with highdicom against the series it was made of, and prints what it says as one JSON line: of each segment's
mask, one byte a voxel with columns fastest, the SHA-256.

usage: check_segmentation.py SEGMENTATION SERIES_FOLDER
"""
import hashlib
import json
import pathlib
import sys

import highdicom
import numpy
import pydicom

seg = highdicom.seg.segread(sys.argv[1])
sources = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(pathlib.Path(sys.argv[2]).iterdir())]
normal = numpy.cross(sources[0].ImageOrientationPatient[:3], sources[0].ImageOrientationPatient[3:])
sources.sort(key=lambda d: numpy.dot(normal, [float(v) for v in d.ImagePositionPatient]))
uids = [d.SOPInstanceUID for d in sources]

masks = {}
for number in seg.segment_numbers:
    # [slices, rows, columns], the slices in the order of the source, ascending along the normal.
    mask = seg.get_pixels_by_source_instance(uids, segment_numbers=[number], ignore_spatial_locations=False, assert_missing_frames_are_empty=True)[..., 0]
    masks[seg.get_segment_description(number).segment_label] = hashlib.sha256((mask != 0).astype(numpy.uint8).tobytes()).hexdigest()

print(json.dumps({
    "type": str(seg.segmentation_type.value), "masks": masks, "patient_kept": seg.PatientID == sources[0].PatientID,
    "study_kept": seg.StudyInstanceUID == sources[0].StudyInstanceUID, "frame_kept": seg.FrameOfReferenceUID == sources[0].FrameOfReferenceUID,
    "referenced_series": [str(s.SeriesInstanceUID) for s in seg.ReferencedSeriesSequence],
    "series": seg.SeriesInstanceUID, "modality": seg.Modality,
}))
