"""Makes golden.zip: small NIfTI files by nibabel, and expect.json with what nibabel (checked against SimpleITK) reads from them.

Run: python make_golden.py   (needs numpy, nibabel, SimpleITK; the output does not depend on the time)
"""
import gzip, io, itertools, json, os, tempfile, zipfile

import nibabel as nib
import numpy as np
import SimpleITK as sitk

HERE = os.path.dirname(os.path.abspath(__file__))
POINTS = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1.5, 2.25, -3]]
TYPES = ["uint8", "int16", "int32", "float32", "float64", "int8", "uint16", "uint32", "int64", "uint64"]
files, expect = {}, []


def values(dtype, shape):
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


def lps(affine, mm=1.0):
    return np.diag([-mm, -mm, mm, 1]) @ affine


def world(affine):
    return [(affine @ np.array(p + [1.0]))[:3].tolist() for p in POINTS]


def itk_world(name, raw):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, name)
        with open(path, "wb") as f:
            f.write(raw)
        img = sitk.ReadImage(path)
    return [list(img.TransformContinuousIndexToPhysicalPoint([float(c) for c in p][: img.GetDimension()])) for p in POINTS]


def add(name, raw, affine_lps, data, itk=True):
    files[name] = raw
    w = world(affine_lps)
    if itk:  # single precision inside ITK's reader
        np.testing.assert_allclose(itk_world(name, raw), w, atol=2e-4, err_msg=name)
    data = np.squeeze(data)
    data = data.reshape(data.shape + (1,) * (3 - data.ndim))
    voxels = np.asarray(data, dtype=np.float64).ravel(order="F").astype(np.float32)
    expect.append(dict(file=name, size=list(data.shape), world=w, voxels=[float(v) for v in voxels]))


def oblique():
    a, b = 0.3, -0.2
    rz = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    m = np.eye(4)
    m[:3, :3] = rx @ rz @ np.diag([0.8, 1.25, 3])
    m[:3, 3] = [-12.5, 33, 7]
    return m


def image(cls, data, affine, endian="<", sform=1, qform=1):
    hdr = cls.header_class(endianness=endian)
    hdr.set_data_dtype(data.dtype)
    img = cls(data, affine, hdr)
    img.set_sform(affine if sform else None, sform)
    img.set_qform(affine if qform else None, qform)
    return img


# Every type, byte order and version, on an oblique grid.
for version, cls in [(1, nib.Nifti1Image), (2, nib.Nifti2Image)]:
    for dtype, endian in itertools.product(TYPES, "<>"):
        data = values(dtype, (3, 4, 5))
        img = image(cls, data, oblique(), endian)
        name = f"v{version}_{dtype}_{'le' if endian == '<' else 'be'}.nii"
        raw = img.to_bytes()
        back = nib.Nifti1Image.from_bytes(raw) if version == 1 else nib.Nifti2Image.from_bytes(raw)
        assert np.array_equal(np.asanyarray(back.dataobj), data)
        add(name, raw, lps(back.affine), data, itk=version == 1)

# The 48 orientations, with the sform only and with the qform only.
for perm in itertools.permutations(range(3)):
    for signs in itertools.product([1, -1], repeat=3):
        m = np.zeros((4, 4))
        m[3, 3] = 1
        for c, r in enumerate(perm):
            m[r, c] = signs[c] * [0.5, 2, 3][c]
        m[:3, 3] = [10, -20, 30]
        code = "".join(nib.aff2axcodes(m))
        for form in "sq":
            img = image(nib.Nifti1Image, values("uint8", (2, 3, 4)), m, sform=form == "s", qform=form == "q")
            add(f"orient_{code}_{form}.nii", img.to_bytes(), lps(nib.Nifti1Image.from_bytes(img.to_bytes()).affine), values("uint8", (2, 3, 4)))

small = values("int16", (3, 4, 2))


def patched(img, **fields):
    """The bytes of an image with header fields overwritten behind nibabel's back."""
    raw = bytearray(img.to_bytes())
    hdr = np.ndarray((), dtype=img.header.template_dtype, buffer=raw)
    for key, value in fields.items():
        hdr[key] = value
    return bytes(raw)


# Which form counts.
both = image(nib.Nifti1Image, small, oblique())
other = np.diag([2.0, 2, 2, 1])
both.set_qform(other, 1)
add("sform_over_qform.nii", both.to_bytes(), lps(oblique()), small, itk=False)
none = image(nib.Nifti1Image, small, np.diag([0.5, 2, 3, 1]), sform=0, qform=0)
# nifti1.h, method 1: x = pixdim[1] * i and so on, in RAS. nibabel centres and flips instead.
add("no_forms.nii", none.to_bytes(), lps(np.diag([0.5, 2, 3, 1.0])), small, itk=False)
left = image(nib.Nifti1Image, small, oblique() @ np.diag([1, 1, -1, 1.0]), sform=0)
assert left.header["pixdim"][0] == -1
add("qfac.nii", left.to_bytes(), lps(nib.Nifti1Image.from_bytes(left.to_bytes()).affine), small)
zero = image(nib.Nifti1Image, small, oblique())
add("sform_of_zeros.nii", patched(zero, srow_x=0, srow_y=0, srow_z=0), lps(zero.get_qform()), small, itk=False)
sheared = oblique()
sheared[0, 1] += 0.4
add("sheared.nii", image(nib.Nifti1Image, small, sheared, qform=0).to_bytes(), lps(sheared), small, itk=False)

# Units.
for unit, mm in [("meter", 1000.0), ("micron", 1e-3), ("mm", 1.0), ("unknown", 1.0)]:
    img = image(nib.Nifti1Image, small, np.diag([0.5, 2, 3, 1]))
    img.header.set_xyzt_units(unit, "sec")
    add(f"unit_{unit}.nii", img.to_bytes(), lps(np.diag([0.5 * mm, 2 * mm, 3 * mm, 1])), small, itk=unit != "unknown")

# Scaling; a slope of 0 or not-a-number means none.
plain = image(nib.Nifti1Image, small, oblique())
add("slope.nii", patched(plain, scl_slope=0.25, scl_inter=-7.5), lps(oblique()), small * 0.25 - 7.5)
add("slope_zero.nii", patched(plain, scl_slope=0, scl_inter=9), lps(oblique()), small)
add("slope_nan.nii", patched(plain, scl_slope=np.nan, scl_inter=np.nan), lps(oblique()), small, itk=False)

# Layout: extensions, an offset of its own, further dimensions of size 1, two dimensions, gzip, colours.
ext = image(nib.Nifti1Image, small, oblique())
ext.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"skip me " * 40))
add("extension.nii", ext.to_bytes(), lps(oblique()), small)
raw = patched(plain, vox_offset=1000)
add("offset.nii", raw[:352] + b"\x55" * 648 + raw[352:], lps(oblique()), small)
add("offset_zero.nii", patched(plain, vox_offset=0), lps(oblique()), small, itk=False)
five = image(nib.Nifti1Image, small.reshape(3, 4, 2, 1, 1), oblique())
add("five_dimensions.nii", five.to_bytes(), lps(oblique()), small, itk=False)
flat = image(nib.Nifti1Image, small[:, :, 0], oblique())
add("two_dimensions.nii", flat.to_bytes(), lps(oblique()), small[:, :, :1], itk=False)
add("packed.nii.gz", gzip.compress(plain.to_bytes(), mtime=0), lps(oblique()), small)
members = gzip.compress(plain.to_bytes()[:200], mtime=0) + gzip.compress(plain.to_bytes()[200:], mtime=0)
add("packed_in_two_members.nii.gz", members, lps(oblique()), small, itk=False)
rng = np.random.default_rng(1)
colour = rng.integers(0, 256, (3, 4, 2, 4), dtype=np.uint8)
grey = colour[..., :3] @ np.array([0.299, 0.587, 0.114])
for n, code in [(3, 128), (4, 2304)]:
    dt = np.dtype([(c, "u1") for c in "RGBA"[:n]])
    data = np.ascontiguousarray(colour[..., :n]).view(dt)[..., 0]
    img = nib.Nifti1Image(data, oblique())
    assert img.header["datatype"] == code
    img.set_sform(oblique(), 1)
    add(f"colour_{code}.nii", img.to_bytes(), lps(oblique()), grey, itk=False)

# A pair.
pair = image(nib.Nifti1Pair, small, oblique(), ">")
maps = pair.make_file_map({"header": io.BytesIO(), "image": io.BytesIO()})
pair.to_file_map(maps)
files["pair.img"] = maps["image"].fileobj.getvalue()
add("pair.hdr", maps["header"].fileobj.getvalue(), lps(oblique()), small, itk=False)

files["expect.json"] = json.dumps(dict(points=POINTS, files=expect)).encode()
with zipfile.ZipFile(os.path.join(HERE, "golden.zip"), "w", zipfile.ZIP_DEFLATED) as z:
    for name in sorted(files):
        z.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
print(len(expect), "files")
