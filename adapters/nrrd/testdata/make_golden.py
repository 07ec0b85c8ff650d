"""Makes golden.zip: small NRRD files by pynrrd, SimpleITK and by hand, and expect.json with what pynrrd and SimpleITK read.

Run: python make_golden.py   (needs numpy, pynrrd, SimpleITK; the output does not depend on the time)
"""
import gzip, itertools, json, os, re, tempfile, zipfile

import nrrd
import numpy as np
import SimpleITK as sitk

HERE = os.path.dirname(os.path.abspath(__file__))
POINTS = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1.5, 2.25, -3]]
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
files, expect = {}, []
tmp = tempfile.TemporaryDirectory()


def values(dtype, shape=(3, 4, 5)):
    n = int(np.prod(shape))
    x = np.arange(n) * 3
    if np.dtype(dtype).kind == "i":
        x = x - n
    if np.dtype(dtype).kind == "f":
        x = x / 4 - 5
    a = x.astype(dtype)
    if np.dtype(dtype).kind in "iu":
        a[-1] = np.iinfo(dtype).max
        a[-2] = np.iinfo(dtype).min
    return a.reshape(shape, order="F")


def oblique():
    a, b = 0.3, -0.2
    rz = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return rx @ rz @ np.diag([0.8, 1.25, 3])


ORIGIN = np.array([-12.5, 33, 7])


def world(m, origin):
    return [(m @ np.array(p, float) + origin).tolist() for p in POINTS]


def add(name, raw, m, origin, data, itk=True):
    files[name] = raw
    w = world(m, origin)
    if itk:
        path = os.path.join(tmp.name, name)
        with open(path, "wb") as f:
            f.write(raw)
        img = sitk.ReadImage(path)
        np.testing.assert_allclose([img.TransformContinuousIndexToPhysicalPoint([float(c) for c in p]) for p in POINTS], w, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(img).T, data, err_msg=name)
    voxels = np.asarray(data, dtype=np.float64).ravel(order="F").astype(np.float32)
    size = list(data.shape) + [1] * (3 - data.ndim)
    expect.append(dict(file=name, size=size, world=w, voxels=[float(v) for v in voxels]))


def by_pynrrd(name, data, header, detached=None, **kw):
    path = os.path.join(tmp.name, name)
    nrrd.write(path, data, header, index_order="F", detached_header=bool(detached), **kw)
    back, _ = nrrd.read(path, index_order="F")
    assert np.array_equal(back, data), name
    raw = open(path, "rb").read()
    # pynrrd writes the time; goldens should not change with it
    head, sep, body = raw.partition(b"\n\n")
    head = b"\n".join(l for l in head.split(b"\n") if b"reated" not in l and b"on " != l[:3])
    return head + sep + body


def lps_header(endian="little", encoding="raw"):
    return {"space": "left-posterior-superior", "space directions": oblique().T, "space origin": ORIGIN,
            "kinds": ["domain"] * 3, "endian": endian, "encoding": encoding}


for dtype, endian, encoding in itertools.product(TYPES, ["little", "big"], ["raw", "gzip", "bzip2", "ascii"]):
    if encoding == "ascii" and endian == "big":
        continue
    data = values(dtype)
    if encoding == "ascii" and data.dtype.kind in "iu" and data.dtype.itemsize == 8:
        data = np.clip(data, 0 if dtype[0] == "u" else -(2**53), 2**53)
    name = f"{dtype}_{endian}_{encoding}.nrrd"
    d = data.astype(np.dtype(dtype).newbyteorder("<" if endian == "little" else ">"))
    raw = by_pynrrd(name, d, lps_header(endian, encoding))
    add(name, raw, oblique(), ORIGIN, data, itk=encoding in ("raw", "gzip") and dtype not in ("uint64", "int64"))

small = values("int16", (3, 4, 2))
LE = small.astype("<i2").tobytes(order="F")


def head(lines, version="NRRD0004"):
    return (version + "\n" + "\n".join(lines) + "\n").encode()


def vectors(m):
    return " ".join("(" + ",".join(repr(float(x)) for x in m[:, c]) + ")" for c in range(m.shape[1]))


BASE = ["type: short", "dimension: 3", "sizes: 3 4 2", "endian: little", "encoding: raw"]
SPACE = ["space directions: " + vectors(oblique()), "space origin: (-12.5,33,7)"]
for space, flip in [("left-posterior-superior", [1, 1, 1]), ("LPS", [1, 1, 1]), ("right-anterior-superior", [-1, -1, 1]), ("RAS", [-1, -1, 1]),
                    ("left-anterior-superior", [1, -1, 1]), ("LAS", [1, -1, 1]), ("scanner-xyz", [1, 1, 1]), ("3D-right-handed", [1, 1, 1])]:
    f = np.diag(flip).astype(float)
    add(f"space_{space}.nrrd", head(BASE + ["space: " + space] + SPACE) + b"\n" + LE, f @ oblique(), f @ ORIGIN, small, itk=space not in ("LAS", "left-anterior-superior"))

lps = ["space: left-posterior-superior"]
for version in range(1, 6):  # a later number changes what may stand in a header, not what stood before
    add(f"version_{version}.nrrd", head(BASE + lps + SPACE, f"NRRD000{version}") + b"\n" + LE, oblique(), ORIGIN, small, itk=version >= 4)
add("crlf.nrrd", (head(BASE + lps + SPACE) + b"\n").replace(b"\n", b"\r\n") + LE, oblique(), ORIGIN, small, itk=False)
add("comments_and_keys.nrrd", head(["# a comment: with a colon"] + BASE + lps + SPACE + ["measurement frame: (1,0,0) (0,-1,0) (0,0,1)", "modality:=CT: abdomen", "content: a b c",
    "centerings: cell cell cell", "thicknesses: nan nan 3"]) + b"\n" + LE, oblique(), ORIGIN, small)
add("spaces_in_vectors.nrrd", head(BASE + lps + ["space directions: " + vectors(oblique()).replace(",", ", "), "space origin: (-12.5, 33, 7)"]) + b"\n" + LE, oblique(), ORIGIN, small, itk=False)
um = ['space units: "um" "um" "um"']
add("micrometres.nrrd", head(BASE + lps + um + SPACE) + b"\n" + LE, oblique() / 1000, ORIGIN / 1000, small, itk=False)
mm = ['space units: "mm" "mm" "mm"']
add("millimetres.nrrd", head(BASE + lps + mm + SPACE) + b"\n" + LE, oblique(), ORIGIN, small)
add("spacings.nrrd", head(BASE + ["spacings: 0.5 2 3"]) + b"\n" + LE, np.diag([0.5, 2, 3]), np.zeros(3), small)
add("spacings_ras_no_directions.nrrd", head(BASE + ["spacings: 0.5 2 nan"]) + b"\n" + LE, np.diag([0.5, 2, 1]), np.zeros(3), small, itk=False)
add("byte_skip.nrrd", head(BASE + lps + SPACE + ["byte skip: 7"]) + b"\n" + b"skipped" + LE, oblique(), ORIGIN, small)
add("byte_skip_to_the_end.nrrd", head(BASE + lps + SPACE + ["byteskip: -1"]) + b"\n" + b"whatever" * 99 + LE, oblique(), ORIGIN, small, itk=False)
add("line_skip.nrrd", head(BASE + lps + SPACE + ["line skip: 2"]) + b"\n" + b"one\ntwo\n" + LE, oblique(), ORIGIN, small, itk=False)
add("byte_skip_in_gzip.nrrd", head([l.replace("raw", "gz") for l in BASE] + lps + SPACE + ["byte skip: 7"]) + b"\n" + gzip.compress(b"skipped" + LE, mtime=0), oblique(), ORIGIN, small, itk=False)
hexed = re.sub("(.{24})", "\\1\n", LE.hex()).encode()
add("hex.nrrd", head([l.replace("raw", "hex") for l in BASE] + lps + SPACE) + b"\n" + hexed, oblique(), ORIGIN, small)
four = [l.replace("dimension: 3", "dimension: 4") for l in BASE]
add("list_axis_of_one.nrrd", head([l.replace("3 4 2", "1 3 4 2") for l in four] + lps + ["kinds: vector domain domain domain", "space directions: none " + vectors(oblique()), SPACE[1]]) + b"\n" + LE, oblique(), ORIGIN, small, itk=False)
add("time_axis_of_one.nrrd", head([l.replace("3 4 2", "3 4 2 1") for l in four] + lps + ["space directions: " + vectors(oblique()) + " none", SPACE[1]]) + b"\n" + LE, oblique(), ORIGIN, small, itk=False)
two = [l.replace("dimension: 3", "dimension: 2").replace("3 4 2", "3 8") for l in BASE]
flat = small.reshape(3, 8, order="F")
add("two_dimensions.nrrd", head(two + ["spacings: 0.5 2"]) + b"\n" + LE, np.diag([0.5, 2, 1]), np.zeros(3), flat, itk=False)
n = np.cross(oblique()[:, 0], oblique()[:, 1])
m = oblique().copy()
m[:, 2] = n / np.linalg.norm(n)
add("a_slice_in_space.nrrd", head(two + lps + ["space directions: " + vectors(oblique()[:, :2]), SPACE[1]]) + b"\n" + LE, m, ORIGIN, flat, itk=False)
for name in ["signed short", "short int", "signed short int", "int16", "int16_t"]:
    add(f"type_{name.replace(' ', '_')}.nrrd", head([l.replace("type: short", "type: " + name) for l in BASE] + lps + SPACE) + b"\n" + LE, oblique(), ORIGIN, small)

# What ITK itself writes, plain and packed.
img = sitk.GetImageFromArray(np.ascontiguousarray(small.T))
img.SetSpacing((0.5, 2, 3)); img.SetOrigin((1, 2, 3)); img.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
for packed in [False, True]:
    path = os.path.join(tmp.name, "itk.nrrd")
    sitk.WriteImage(img, path, packed)
    d = np.array(img.GetDirection()).reshape(3, 3) @ np.diag(img.GetSpacing())
    add(f"itk_{'gzip' if packed else 'raw'}.nrrd", open(path, "rb").read(), d, np.array([1.0, 2, 3]), small)

# Data in a file of its own.
files["voxels.raw"] = LE
add("detached.nhdr", head(BASE + lps + SPACE + ["data file: voxels.raw"]), oblique(), ORIGIN, small, itk=False)
files["voxels.raw.gz"] = gzip.compress(LE, mtime=0)
add("detached_gzip.nhdr", head([l.replace("raw", "gzip") for l in BASE] + lps + SPACE + ["datafile: ./voxels.raw.gz"]) + b"\n", oblique(), ORIGIN, small, itk=False)

files["expect.json"] = json.dumps(dict(points=POINTS, files=expect)).encode()
with zipfile.ZipFile(os.path.join(HERE, "golden.zip"), "w", zipfile.ZIP_DEFLATED) as z:
    for name in sorted(files):
        z.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
print(len(expect), "files")
