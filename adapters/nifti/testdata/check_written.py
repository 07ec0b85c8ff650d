"""Checks written.zip, which `go test ./adapters/nifti -run Written -update` makes, with nibabel and SimpleITK.

Run: python check_written.py
"""
import os, tempfile, zipfile

import nibabel as nib
import numpy as np
import SimpleITK as sitk

HERE = os.path.dirname(os.path.abspath(__file__))
a, b = 0.3, -0.2
ca, sa, cb, sb = np.cos(a), np.sin(a), np.cos(b), np.sin(b)
OBLIQUE = np.array([[ca, -sa, 0], [cb * sa, cb * ca, -sb], [sb * sa, sb * ca, cb]])
GRIDS = {"oblique": OBLIQUE, "left": OBLIQUE @ np.diag([1, -1, 1]), "sheared": np.array([[1, 0.6, 0], [0, 0.8, 0], [0, 0, 1]]), "turned": np.diag([1.0, -1, -1])}
ORIGIN = np.array([-12.5, 33, 7])
DATA = (np.arange(60) * 2).reshape((3, 4, 5), order="F")
n = 0
with zipfile.ZipFile(os.path.join(HERE, "written.zip")) as z, tempfile.TemporaryDirectory() as tmp:
    for name in z.namelist():
        path = z.extract(name, tmp)
        grid, dtype, version = name[:-4].split("_")
        d = GRIDS[grid] @ np.diag([0.8, 1.25, 3])
        ras = np.eye(4)
        ras[:3, :3], ras[:3, 3] = np.diag([-1, -1, 1]) @ d, np.diag([-1, -1, 1]) @ ORIGIN
        img = nib.load(path)
        assert type(img) is (nib.Nifti1Image if version == "v1" else nib.Nifti2Image), name
        assert img.get_data_dtype() == np.dtype("float32" if dtype == "image" else dtype), name
        np.testing.assert_array_equal(np.asanyarray(img.dataobj), DATA, name)
        np.testing.assert_allclose(img.get_sform(), ras, atol=1e-5, err_msg=name)
        assert int(img.header["sform_code"]) == 1 and img.header.get_xyzt_units()[0] == "mm", name
        if grid == "sheared":
            assert int(img.header["qform_code"]) == 0, name
        else:
            np.testing.assert_allclose(img.get_qform(), ras, atol=1e-5, err_msg=name)
            if version == "v1":  # SimpleITK refuses shears, and may be built without NIfTI-2
                s = sitk.ReadImage(path)
                np.testing.assert_array_equal(sitk.GetArrayFromImage(s).T, DATA, name)
                for p in [(0, 0, 0), (2, 3, 4)]:
                    np.testing.assert_allclose(s.TransformIndexToPhysicalPoint(p), d @ p + ORIGIN, atol=1e-4, err_msg=name)
        n += 1
print(n, "files are read alike by nibabel and SimpleITK")
