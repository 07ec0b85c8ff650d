"""Makes ../dicomtest/golden.zip: small DICOM series by pydicom, each in a folder of its own, and expect.json with what pydicom reads of their
pixels and SimpleITK of their geometry. With a folder of real series as argument it also makes real.json, what SimpleITK reads
of those.

Run: python make_golden.py [data/dicom]   (needs numpy, pydicom, SimpleITK; the output does not depend on the time)
"""
import copy, hashlib, io, json, os, sys, tempfile, zipfile

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.sequence import Sequence
from pydicom.uid import (CTImageStorage, DeflatedExplicitVRLittleEndian, EnhancedMRImageStorage, ExplicitVRBigEndian,
                         ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, RLELossless,
                         SecondaryCaptureImageStorage, generate_uid)

HERE = os.path.dirname(os.path.abspath(__file__))
random = np.random.default_rng(7)
files, expect = {}, []
ROWS, COLUMNS, SLICES = 5, 6, 4
LUMA = np.array([0.299, 0.587, 0.114])


def uid(*parts):
    return generate_uid(entropy_srcs=["scrawl golden", *map(str, parts)])


def header(series, n, kind=CTImageStorage, modality="CT"):
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = kind, uid(series, n)
    d.Modality, d.PatientName, d.PatientID = modality, "Golden^Test", "G1"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = uid("study"), uid(series), uid("frame")
    d.StudyDate, d.StudyTime, d.SeriesNumber, d.InstanceNumber = "20200102", "030405", 3, n + 1
    d.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    d.RescaleSlope, d.RescaleIntercept = 1, 0
    d.PixelSpacing, d.SliceThickness = [0.8, 1.25], 3
    return d


def pixels(d, a, photometric="MONOCHROME2", stored=None, high=None, signed=None):
    a = np.ascontiguousarray(a)
    d.Rows, d.Columns = a.shape[:2] if a.ndim == 2 or a.shape[-1] == 3 else a.shape[1:3]
    d.SamplesPerPixel, d.PhotometricInterpretation = (3 if photometric[:3] in ("RGB", "YBR") else 1), photometric
    d.BitsAllocated = 8 * a.dtype.itemsize
    d.BitsStored = stored or d.BitsAllocated
    d.HighBit = d.BitsStored - 1 if high is None else high
    d.PixelRepresentation = int(a.dtype.kind == "i") if signed is None else signed
    if d.SamplesPerPixel == 3:
        d.PlanarConfiguration = 0
    d.PixelData = a.tobytes() + b"\0" * (a.nbytes % 2)
    d["PixelData"].VR = "OB" if d.BitsAllocated == 8 else "OW"


def save(folder, name, d, syntax=ExplicitVRLittleEndian):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = d.SOPClassUID, d.SOPInstanceUID, syntax
    meta.ImplementationClassUID = "1.2.3"
    b = io.BytesIO()
    if syntax == ExplicitVRBigEndian and d.BitsAllocated == 16:
        d.PixelData = np.frombuffer(d.PixelData, "<u2").astype(">u2").tobytes()
    f = FileDataset(b, d, file_meta=meta, preamble=b"\0" * 128)
    pydicom.dcmwrite(b, f, enforce_file_format=True, little_endian=syntax != ExplicitVRBigEndian, implicit_vr=syntax == ImplicitVRLittleEndian)
    files[f"{folder}/{name}"] = b.getvalue()
    return pydicom.dcmread(io.BytesIO(b.getvalue()))


def geometry(folder, names, dimension=3):
    with tempfile.TemporaryDirectory() as tmp:
        paths = []
        for n in names:
            paths.append(os.path.join(tmp, os.path.basename(n)))
            open(paths[-1], "wb").write(files[f"{folder}/{n}"])
        if len(paths) == 1:
            im = sitk.ReadImage(paths[0])
        else:
            r = sitk.ImageSeriesReader()
            r.SetFileNames(r.GetGDCMSeriesFileNames(tmp))
            im = r.Execute()
        return dict(size=im.GetSize(), spacing=im.GetSpacing(), origin=im.GetOrigin(), direction=im.GetDirection())


def add(folder, voxels, grid, notes=()):
    voxels = np.asarray(voxels, "float64")
    expect.append(dict(folder=folder, voxels=[float(np.float32(v)) for v in voxels.ravel()], notes=list(notes), **grid))


def turned(a=0.4, b=-0.25):
    ca, sa, cb, sb = np.cos(a), np.sin(a), np.cos(b), np.sin(b)
    m = np.array([[ca, -sa, 0], [cb * sa, cb * ca, -sb], [sb * sa, sb * ca, cb]])
    return [float(f"{v:.12f}") for v in (*m[:, 0], *m[:, 1])], np.cross(m[:, 0], m[:, 1])


def series(folder, orientation, positions, order=None, change=None, syntax=ExplicitVRLittleEndian, dtype="int16"):
    """Writes slices at positions, in an order of files and numbers that says nothing, and returns their values."""
    volume = random.integers(-1000, 2000, (len(positions), ROWS, COLUMNS)).astype(dtype)
    if dtype[0] == "u":
        volume = random.integers(0, 4000, volume.shape).astype(dtype)
    for n, k in enumerate(order or range(len(positions))):
        d = header(folder, n)
        d.ImageOrientationPatient = orientation
        d.ImagePositionPatient = [float(f"{v:.12f}"[:16]) for v in positions[k]]
        d.RescaleSlope, d.RescaleIntercept = 2, -1024
        pixels(d, volume[k])
        if change:
            change(d, k)
        save(folder, f"{n:03d}.dcm" if n % 2 else f"IM.{n}", d, syntax)
    return 2.0 * volume - 1024


AXIAL, ORIGIN = [1, 0, 0, 0, 1, 0], np.array([-10.0, 20.0, 30.0])
OBLIQUE, NORMAL = turned()
names = lambda folder: [n.split("/", 1)[1] for n in files if n.startswith(folder + "/")]

# Series: order of files and numbers, oblique planes, descending positions, a tilted gantry, gaps, repetitions, other orientations.
for folder, orientation, normal, step, order in [
    ("axial", AXIAL, [0, 0, 1], 2.5, [2, 0, 3, 1]), ("descending", AXIAL, [0, 0, 1], -2.5, None),
    ("oblique", OBLIQUE, NORMAL, 3.3, [3, 1, 0, 2]), ("oblique_descending", OBLIQUE, NORMAL, -3.3, None),
    ("sagittal", [0, 1, 0, 0, 0, -1], [-1, 0, 0], 1.5, None), ("feet_first", [-1, 0, 0, 0, 1, 0], [0, 0, -1], 4, None),
]:
    positions = [ORIGIN + k * step * np.array(normal) for k in range(SLICES)]
    values = series(folder, orientation, positions, order)
    add(folder, values if step > 0 else values[::-1], geometry(folder, names(folder)))

shift = np.array([0, 0.5, 2.5])
values = series("tilted", AXIAL, [ORIGIN + k * shift for k in range(SLICES)])
length = float(np.linalg.norm(shift))
add("tilted", values, dict(size=[COLUMNS, ROWS, SLICES], spacing=[1.25, 0.8, length], origin=list(ORIGIN),
                           direction=[1, 0, 0, 0, 1, 0.5 / length, 0, 0, 2.5 / length]), ["off their normal"])

values = series("gap", AXIAL, [ORIGIN + [0, 0, z] for z in (0, 2, 4, 8)])
add("gap", values, dict(size=[COLUMNS, ROWS, 4], spacing=[1.25, 0.8, 8 / 3], origin=list(ORIGIN), direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ["not equally far apart"])


def echo(d, k):
    d.EchoTime = [10, 90][k // SLICES]


values = series("echoes", AXIAL, [ORIGIN + [0, 0, 2.0 * (k % SLICES)] for k in range(2 * SLICES)], order=[7, 0, 6, 1, 5, 2, 4, 3], change=echo)
add("echoes", values[:SLICES], dict(size=[COLUMNS, ROWS, SLICES], spacing=[1.25, 0.8, 2], origin=list(ORIGIN), direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ["lie where another one does"])


def localizer(d, k):
    if k >= SLICES:
        d.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        d.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


values = series("localizer", AXIAL, [ORIGIN + [0, 0, 2.0 * k] for k in range(SLICES + 1)], change=localizer)
add("localizer", values[:SLICES], dict(size=[COLUMNS, ROWS, SLICES], spacing=[1.25, 0.8, 2], origin=list(ORIGIN), direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ["localizer"])


def other(d, k):
    if k >= SLICES:
        d.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


values = series("mixed", AXIAL, [ORIGIN + [0, 0, 2.0 * k] for k in range(SLICES + 2)], change=other)
add("mixed", values[:SLICES], dict(size=[COLUMNS, ROWS, SLICES], spacing=[1.25, 0.8, 2], origin=list(ORIGIN), direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]),
    ["differ in orientation"])


def bare(d, k):
    for name in ("PatientName", "PatientID", "StudyDate", "StudyTime", "SeriesNumber", "StudyInstanceUID", "SeriesInstanceUID", "ImageType",
                 "FrameOfReferenceUID", "SliceThickness", "InstanceNumber", "HighBit", "BitsStored", "Modality"):
        delattr(d, name)


values = series("bare", AXIAL, [ORIGIN + [0, 0, 2.0 * k] for k in range(SLICES)], change=bare)
add("bare", values, dict(size=[COLUMNS, ROWS, SLICES], spacing=[1.25, 0.8, 2], origin=list(ORIGIN), direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]))

for folder, syntax in [("implicit", ImplicitVRLittleEndian), ("big_endian", ExplicitVRBigEndian), ("deflated", DeflatedExplicitVRLittleEndian)]:
    values = series(folder, OBLIQUE, [ORIGIN + 3 * k * NORMAL for k in range(SLICES)], syntax=syntax)
    add(folder, values, geometry(folder, names(folder)))


# Pixels: one image each, read by pydicom.
def single(folder, a, syntax=ExplicitVRLittleEndian, change=None, luma=False, truth=None, **how):
    d = header(folder, 0, SecondaryCaptureImageStorage, "OT")
    del d.FrameOfReferenceUID
    pixels(d, a, **how)
    if change:
        change(d)
    d = save(folder, "image.dcm", d, syntax)
    values = d.pixel_array
    if truth is not None:
        values = truth
    elif how.get("photometric") == "PALETTE COLOR":
        values = (apply_color_lut(values, d).astype("float64") / (257 if d.RedPaletteColorLookupTableDescriptor[2] == 16 else 1)) @ LUMA
    elif luma:
        values = values.astype("float64") @ LUMA
    else:
        values = apply_modality_lut(values, d)
        if d.PhotometricInterpretation == "MONOCHROME1":
            stored = d.pixel_array.astype("float64")
            ends = -1 if d.PixelRepresentation else 2**d.BitsStored - 1
            values = (ends - stored) * float(d.RescaleSlope) + float(d.RescaleIntercept)
    add(folder, values, dict(size=[COLUMNS, ROWS, 1], spacing=[1.25, 0.8, 3], origin=[0, 0, 0], direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]))


def scale(d):
    d.RescaleSlope, d.RescaleIntercept = "0.1220703125", "-17.5"


shape = (ROWS, COLUMNS)
single("uint8", random.integers(0, 256, shape).astype("uint8"))
single("int8", random.integers(-128, 128, shape).astype("int8"), change=scale)
single("uint16", random.integers(0, 1 << 16, shape).astype("uint16"), change=scale)
single("uint16_of_12", random.integers(0, 1 << 12, shape).astype("uint16"), stored=12)
high = random.integers(0, 1 << 12, shape)
single("uint16_of_12_high", (high << 4).astype("uint16"), stored=12, high=15, truth=high)  # pydicom does not look at the high bit
single("int16_of_12", (random.integers(-2048, 2048, shape) & 0xFFF).astype("uint16"), stored=12, signed=1)
single("int16_of_12_overlay", (random.integers(-2048, 2048, shape) & 0xFFF | 0x5000).astype("uint16"), stored=12, signed=1)
single("int32", random.integers(-(1 << 20), 1 << 20, shape).astype("int32"), change=scale)
single("uint32_of_20", random.integers(0, 1 << 20, shape).astype("uint32"), stored=20)
single("monochrome1", random.integers(0, 1 << 12, shape).astype("uint16"), stored=12, photometric="MONOCHROME1", change=scale)
single("monochrome1_signed", random.integers(-100, 100, shape).astype("int16"), photometric="MONOCHROME1")
single("rgb", random.integers(0, 256, (*shape, 3)).astype("uint8"), photometric="RGB", luma=True)
single("rgb_big_endian", random.integers(0, 256, (*shape, 3)).astype("uint8"), photometric="RGB", luma=True, syntax=ExplicitVRBigEndian)
single("rgb16", random.integers(0, 1 << 16, (*shape, 3)).astype("uint16"), photometric="RGB", luma=True)


def planar(d):
    d.PixelData = np.frombuffer(d.PixelData[:90], "uint8").reshape(ROWS, COLUMNS, 3).transpose(2, 0, 1).tobytes()
    d.PlanarConfiguration = 1


single("rgb_planar", random.integers(0, 256, (*shape, 3)).astype("uint8"), photometric="RGB", luma=True, change=planar)


def palette(bits):
    def change(d):
        table = random.integers(0, 1 << bits, (3, 200)).astype("uint8" if bits == 8 else "uint16")
        for name, t in zip(["Red", "Green", "Blue"], table):
            setattr(d, name + "PaletteColorLookupTableDescriptor", [200, 10, bits])
            setattr(d, name + "PaletteColorLookupTableData", t.tobytes())
    return change


for bits in (8, 16):
    single(f"palette{bits}", random.integers(0, 256, shape).astype("uint8"), photometric="PALETTE COLOR", change=palette(bits))

# YBR: brightness is the first sample.
ybr = random.integers(0, 256, (*shape, 3)).astype("uint8")
d = header("ybr", 0, SecondaryCaptureImageStorage, "OT")
pixels(d, ybr, photometric="YBR_FULL")
save("ybr", "image.dcm", d)
grid = dict(size=[COLUMNS, ROWS, 1], spacing=[1.25, 0.8, 3], origin=[0, 0, 0], direction=[1, 0, 0, 0, 1, 0, 0, 0, 1])
add("ybr", ybr[..., 0], grid)
d = header("ybr_422", 0, SecondaryCaptureImageStorage, "OT")
pixels(d, ybr, photometric="YBR_FULL_422")
y = ybr[..., 0].reshape(ROWS, COLUMNS // 2, 2)
d.PixelData = np.concatenate([y, ybr[:, ::2, 1:]], axis=-1).tobytes()
save("ybr_422", "image.dcm", d)
add("ybr_422", ybr[..., 0], grid)

# Frames: enhanced with functional groups, encapsulated in several ways, a dose grid, bits.
volume = random.integers(-500, 500, (SLICES, ROWS, COLUMNS)).astype("int16")


def enhanced(folder, syntax=ExplicitVRLittleEndian):
    d = header(folder, 0, EnhancedMRImageStorage, "MR")
    del d.RescaleSlope, d.RescaleIntercept, d.PixelSpacing, d.SliceThickness
    order = [2, 0, 3, 1]
    pixels(d, volume[order])
    d.NumberOfFrames = SLICES
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.8, 1.25], 3
    plane.ImageOrientationPatient = OBLIQUE
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    d.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for k in order:
        f, position, transform, content = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [float(f"{v:.10f}") for v in ORIGIN + 3 * k * NORMAL]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = k + 1, -10 * k, "US"
        content.StackID, content.InStackPositionNumber = "1", k + 1
        f.PlanePositionSequence, f.PixelValueTransformationSequence, f.FrameContentSequence = map(lambda x: Sequence([x]), (position, transform, content))
        frames.append(f)
    d.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return d


slopes = np.arange(1, SLICES + 1).reshape(-1, 1, 1)
intercepts = -10 * np.arange(SLICES).reshape(-1, 1, 1)
save("enhanced", "e.dcm", enhanced("enhanced"))
oblique = dict(size=[COLUMNS, ROWS, SLICES], spacing=[1.25, 0.8, 3], origin=list(ORIGIN),
               direction=np.array([OBLIQUE[:3], OBLIQUE[3:], list(NORMAL)]).T.ravel().tolist())
add("enhanced", volume * slopes + intercepts, oblique)

order = [2, 0, 3, 1]
rle = [RLELosslessEncoder.encode(volume[k], rows=ROWS, columns=COLUMNS, samples_per_pixel=1, bits_allocated=16, bits_stored=16,
                                 photometric_interpretation="MONOCHROME2", number_of_frames=1, pixel_representation=1) for k in order]
for folder in ("rle", "rle_no_table", "rle_fragments", "rle_extended"):
    d = enhanced(folder)
    if folder == "rle":
        d.PixelData = encapsulate(rle, has_bot=True)
    elif folder == "rle_no_table":
        d.PixelData = encapsulate(rle, has_bot=False)
    elif folder == "rle_fragments":
        d.PixelData = encapsulate(rle, has_bot=True, fragments_per_frame=3)
    else:
        d.PixelData, d.ExtendedOffsetTable, d.ExtendedOffsetTableLengths = encapsulate_extended(rle)
    d["PixelData"].VR, d["PixelData"].is_undefined_length = "OB", True
    save(folder, "e.dcm", d, RLELossless)
    add(folder, volume * slopes + intercepts, oblique)

d = header("dose", 0, "1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE")
dose = random.integers(0, 1 << 31, (SLICES, ROWS, COLUMNS)).astype("uint32")
pixels(d, dose)
d.NumberOfFrames, d.GridFrameOffsetVector, d.DoseGridScaling = SLICES, [0, 3, 6, 9], "1e-06"
d.ImageOrientationPatient, d.ImagePositionPatient = AXIAL, list(ORIGIN)
save("dose", "d.dcm", d)
add("dose", dose * 1e-06, dict(size=[COLUMNS, ROWS, SLICES], spacing=[1.25, 0.8, 3], origin=list(ORIGIN), direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]))

d = header("bits", 0, SecondaryCaptureImageStorage, "OT")
bits = random.integers(0, 2, (3, ROWS, COLUMNS)).astype("uint8")
pixels(d, bits)
d.BitsAllocated, d.BitsStored, d.HighBit, d.NumberOfFrames = 1, 1, 0, 3
d.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes()
d["PixelData"].VR = "OB"
save("bits", "b.dcm", d)
add("bits", bits, dict(size=[COLUMNS, ROWS, 3], spacing=[1.25, 0.8, 3], origin=[0, 0, 0], direction=[1, 0, 0, 0, 1, 0, 0, 0, 1]))

d = header("float", 0, "1.2.840.10008.5.1.4.1.1.30", "MR")
value = random.normal(size=shape).astype("float32")
pixels(d, random.integers(0, 2, shape).astype("uint16"))
del d.PixelData
d.BitsAllocated = 32
del d.BitsStored, d.HighBit, d.PixelRepresentation
d.FloatPixelData = value.tobytes()
save("float", "f.dcm", d)
add("float", value, grid)

with zipfile.ZipFile(os.path.join(HERE, "..", "dicomtest", "golden.zip"), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
    for name, data in {**files, "expect.json": json.dumps(expect)}.items():
        z.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 9)

if len(sys.argv) > 1:
    real = []
    for folder in ["ct_abdomen_siemens_j2k/series", "mr_prostate_adc_ge_oblique/series", "seg_ct3slice/series", "seg_tiny_23x38x3/image", "seg_tiny_23x38x3/multiframe"]:
        path = os.path.join(sys.argv[1], folder)
        r = sitk.ImageSeriesReader()
        paths = r.GetGDCMSeriesFileNames(path)
        r.SetFileNames(paths)
        im = r.Execute() if len(paths) > 1 else sitk.ReadImage(paths[0])
        voxels = sitk.GetArrayFromImage(im).astype("<f4")
        real.append(dict(folder=folder, size=im.GetSize(), spacing=im.GetSpacing(), origin=im.GetOrigin(), direction=im.GetDirection(),
                         sha256=hashlib.sha256(voxels.tobytes()).hexdigest()))
    with open(os.path.join(HERE, "real.json"), "w") as f:
        json.dump(real, f, indent=1)
        f.write("\n")
