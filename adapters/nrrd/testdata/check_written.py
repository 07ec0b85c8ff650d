"""Checks written.zip, which `go test ./adapters/nrrd -run Written -update` makes, with pynrrd and SimpleITK.

Run: python check_written.py
"""
import os, tempfile, zipfile

import nrrd
import numpy as np
import SimpleITK as sitk

HERE = os.path.dirname(os.path.abspath(__file__))
a, b = 0.3, -0.2
ca, sa, cb, sb = np.cos(a), np.sin(a), np.cos(b), np.sin(b)
D = np.array([[ca, -sa, 0], [cb * sa, cb * ca, -sb], [sb * sa, sb * ca, cb]]) @ np.diag([0.8, 1.25, 3])
ORIGIN = np.array([-12.5, 33, 7])
DATA = (np.arange(60) * 2).reshape((3, 4, 5), order="F")
n = 0
with zipfile.ZipFile(os.path.join(HERE, "written.zip")) as z, tempfile.TemporaryDirectory() as tmp:
    for name in z.namelist():
        path = z.extract(name, tmp)
        _, dtype, packed = name.split(".")[0].split("_")
        data, header = nrrd.read(path, index_order="F")
        assert data.dtype == np.dtype(dtype), name
        np.testing.assert_array_equal(data, DATA, name)
        np.testing.assert_allclose(header["space directions"].T, D, rtol=1e-14, atol=1e-15, err_msg=name)
        np.testing.assert_array_equal(header["space origin"], ORIGIN, name)
        assert header["encoding"] == ("gzip" if packed == "true" else "raw"), name
        img = sitk.ReadImage(path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(img).T, DATA, name)
        for p in [(0, 0, 0), (2, 3, 4)]:
            np.testing.assert_allclose(img.TransformIndexToPhysicalPoint(p), D @ p + ORIGIN, atol=1e-9, err_msg=name)
        if "seg" in name:
            assert header["Segment0_Name"] == "liver" and header["Segment0_LabelValue"] == "2", header
        n += 1
print(n, "files are read alike by pynrrd and SimpleITK")
