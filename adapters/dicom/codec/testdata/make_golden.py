"""Makes golden.zip: small frames coded by OpenJPEG, OpenJPH, CharLS, dcmtk, libjpeg-turbo and pydicom, and expect.json with what
they decode to: the source of a lossless one, what the coder's own decoder makes of a lossy one.

Run: python make_golden.py            golden.zip, the same at every run
     python make_golden.py N FILE     N random frames of every kind into FILE, for a longer comparison

Needs numpy, pydicom, imagecodecs, pyjpegls; opj_compress and opj_decompress (Debian libopenjp2-tools), dcmcjpeg and dcmcjpls
(dcmtk), cjpeg and djpeg (libjpeg-turbo-progs).
"""
import json, os, random, subprocess, sys, tempfile, zipfile

import imagecodecs
import jpeg_ls
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

HERE = os.path.dirname(os.path.abspath(__file__))
RLE, BASELINE, EXTENDED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JLS, JLS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
J2K_LOSSLESS, J2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS, HTJ2K_RPCL, HTJ2K = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"
files, cases, sources = {}, [], {}
tmp = tempfile.TemporaryDirectory()


class Refused(Exception):
    """A coder that makes nothing of its options, or not what its own decoder reads."""


def picture(h, w, n, bits, signed, seed=1):
    """Slopes, waves, edges, a flat part and noise, over the whole range of values."""
    key = (h, w, n, bits, signed, seed)
    if key in sources:
        return sources[key]
    r = np.random.default_rng(abs(hash((h, w, n, bits, seed))) % 2**32)
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    planes = []
    for c in range(n):
        p = 0.4 + 0.25 * np.sin(9 * x + c) * np.cos(7 * y - c) + 0.2 * (x + y) - 0.1 * c
        p += 0.3 * ((x - 0.4) ** 2 + (y - 0.3) ** 2 < 0.03)
        p += r.normal(0, 0.01, p.shape)
        p[(x > 0.6) & (y > 0.4)] = 0.05 * c
        p[: h // 9, : w // 9] = r.random((h // 9, w // 9))
        planes.append(p)
    a = np.clip(np.stack(planes, -1), 0, 1) * (2**bits - 1)
    a = np.rint(a).astype(np.int64)
    if signed:
        a -= 2 ** (bits - 1)
    sources[key] = a
    return a


def add(name, syntax, data, want, bits, signed=False, allocated=None, tolerance=0):
    """want: [rows, columns, samples]"""
    want = np.asarray(want)
    want = want.reshape(want.shape[0], want.shape[1], -1)
    raw = want.astype("<i4").tobytes()
    ref = next((k for k, v in files.items() if v == raw), None)
    if ref is None:
        ref = f"{len(files)}.raw"
        files[ref] = raw
    files[name] = bytes(data)
    cases.append(dict(name=name, syntax=syntax, rows=want.shape[0], columns=want.shape[1], samples=want.shape[2],
                      allocated=allocated or (8 if bits <= 8 else 16 if bits <= 16 else 32), stored=bits, signed=signed,
                      want=ref, tolerance=tolerance))


def run(*args):
    if (done := subprocess.run([str(a) for a in args], capture_output=True)).returncode:
        raise Refused(args, done.stderr[-300:])


def path(name):
    return os.path.join(tmp.name, name)


def read(name):
    with open(path(name), "rb") as f:
        return f.read()


def dtype(bits, signed):
    return np.dtype(("<i" if signed else "<u") + ("1" if bits <= 8 else "2" if bits <= 16 else "4"))


# JPEG 2000

def openjpeg(name, a, bits, signed, *options, lossless=True, ext="j2k", tolerance=0):
    h, w, n = a.shape
    a.transpose(2, 0, 1).astype(dtype(bits, signed)).tofile(path("in.rawl"))
    run("opj_compress", "-i", path("in.rawl"), "-o", path("out." + ext), "-F", f"{w},{h},{n},{bits},{'s' if signed else 'u'}", *options)
    data = read("out." + ext)
    run("opj_decompress", "-i", path("out." + ext), "-o", path("back.rawl"))
    want = np.fromfile(path("back.rawl"), dtype(bits, signed)).reshape(n, h, w).transpose(1, 2, 0).astype(np.int64)
    if signed:
        want = want << (64 - bits) >> (64 - bits)
    if lossless and (want != a).any():
        raise Refused(name)
    add(name, J2K_LOSSLESS if lossless else J2K, data, want, bits, signed, tolerance=tolerance)


def jpeg2000():
    g = picture(47, 61, 1, 12, False)
    for i, order in enumerate(["LRCP", "RLCP", "RPCL", "PCRL", "CPRL"]):
        openjpeg(f"j2k_{order}", picture(47, 61, 3, 8, False), 8, False, "-p", order, "-c", "[32,16],[16,16]", "-b", "8,8", "-r", "20,6,1",
                 *(["-SOP", "-EPH"] if i % 2 else []))
        openjpeg(f"j2k_{order}_tiles", g, 12, False, "-p", order, "-t", "23,19", "-r", "12,1", "-b", "16,4", "-TP", "RLC"[i % 3],
                 "-d", f"{5 + i},{3 + 2 * i}", "-T", f"{i},{i % 3}", "-n", 2 + i % 4)
    for m in [1, 2, 4, 8, 16, 32, 5, 9, 13, 42, 63]:
        openjpeg(f"j2k_style_{m}", g, 12, False, "-M", m, "-b", "32,32", "-r", "8,1")
    openjpeg("j2k_region", picture(47, 61, 3, 8, False), 8, False, "-ROI", "c=1,U=9", "-mct", 0)
    # Changes of the order between layers come out of opj_compress 2.5.0 with packets missing.
    openjpeg("j2k_poc", picture(47, 61, 3, 8, False), 8, False, "-n", 4, "-r", "9,1", "-POC", "T1=0,0,2,2,3,CPRL/T1=2,0,2,4,3,LRCP")
    openjpeg("j2k_one_resolution", g, 12, False, "-n", 1)
    openjpeg("j2k_boxes", picture(47, 61, 3, 8, False), 8, False, ext="jp2")
    openjpeg("j2k_no_mct", picture(47, 61, 3, 8, False), 8, False, "-mct", 0)
    openjpeg("j2k_markers", g, 12, False, "-PLT", "-TLM", "-t", "32,32")
    for bits, signed in [(1, False), (2, True), (5, False), (8, True), (12, True), (16, False), (16, True), (24, False), (24, True)]:
        a = picture(33, 29, 1, bits, signed)
        data = imagecodecs.jpeg2k_encode(a.astype(dtype(bits, signed)), codecformat="j2k", bitspersample=bits, reversible=True, resolutions=4)
        add(f"j2k_{bits}_{'signed' if signed else 'unsigned'}", J2K_LOSSLESS, data, a, bits, signed)
    for h, w in [(1, 1), (1, 40), (40, 1), (2, 3), (5, 4)]:
        n = min(h, w).bit_length()  # at most one sample is left
        openjpeg(f"j2k_{h}x{w}", picture(h, w, 1, 8, False), 8, False, "-n", n)
        openjpeg(f"j2k_{h}x{w}_odd", picture(h, w, 1, 8, False), 8, False, "-n", n, "-d", "3,5")
        openjpeg(f"j2k_{h}x{w}_97", picture(h, w, 1, 8, False), 8, False, "-n", n, "-d", "1,3", "-I", lossless=False, tolerance=1)
    # OpenJPEG 2.5.0 scales high-pass coefficients by 1.625732422 where the standard's 2/K is 1.625786132: up to 2 in 16 bits.
    openjpeg("j2k_97", g, 12, False, "-I", "-r", "10", lossless=False, tolerance=1)
    openjpeg("j2k_97_colour", picture(47, 61, 3, 8, False), 8, False, "-I", "-r", "30,10,4", "-t", "40,40", lossless=False, tolerance=1)
    openjpeg("j2k_97_signed", picture(47, 61, 1, 16, True), 16, True, "-I", "-r", "5", "-M", 1, lossless=False, tolerance=2)
    openjpeg("j2k_97_region", picture(47, 61, 1, 8, False), 8, False, "-I", "-r", "5", "-ROI", "c=0,U=10", lossless=False, tolerance=1)
    openjpeg("j2k_53_lossy", g, 12, False, "-r", "10", lossless=False, tolerance=0)
    openjpeg("j2k_53_lossy_colour", picture(47, 61, 3, 8, False), 8, False, "-r", "15", lossless=False, tolerance=0)


def jpeg2000_random(r):
    bits, signed, n = r.choice([8, 8, 10, 12, 16, 16]), r.random() < 0.4, r.choice([1, 1, 3, 4])
    h, w = r.randint(1, 90), r.randint(1, 90)
    a = picture(h, w, n, bits, signed, r.randint(1, 9))
    irreversible = r.random() < 0.3
    xcb = r.randint(2, 6)
    ycb = r.randint(2, 6)
    options = ["-p", r.choice(["LRCP", "RLCP", "RPCL", "PCRL", "CPRL"]), "-b", f"{1 << xcb},{1 << ycb}", "-n", r.randint(1, 7)]
    if r.random() < 0.5:
        options += ["-c", ",".join(f"[{1 << r.randint(4, 7)},{1 << r.randint(4, 7)}]" for _ in range(r.randint(1, 3)))]
    if r.random() < 0.5:
        options += ["-M", r.randint(0, 63)]
    if r.random() < 0.3:
        options += ["-t", f"{r.randint(20, 100)},{r.randint(20, 100)}"]
    if r.random() < 0.3:
        options += ["-d", f"{r.randint(0, 20)},{r.randint(0, 20)}"]
    # In tile-parts, opj_compress 2.5.0 loses packets of some position-based progressions.
    options += (["-TP", "R"] if options[1] in ("LRCP", "RLCP") and r.random() < 0.3 else []) + r.choice([[], ["-SOP"]]) + r.choice([[], ["-EPH"]])
    lossless = not irreversible
    if irreversible:
        options += ["-I"]
    if r.random() < 0.5:
        rates = sorted(r.sample(range(2, 60), r.randint(1, 4)), reverse=True)
        if r.random() < 0.5:
            rates.append(1)
        lossless = lossless and rates[-1] == 1
        options += ["-r", ",".join(map(str, rates))]
    ext = "j2k"  # what the boxes say of colours is not DICOM's, but opj_decompress heeds it
    if n >= 3:
        options += ["-mct", r.randint(0, 1)]
    else:
        ext = r.choice(["j2k", "jp2"])
    openjpeg(f"j2k_{len(cases)}_{'_'.join(map(str, options)).replace('/', '')}", a, bits, signed, *options, lossless=lossless,
             ext=ext, tolerance=(3 if bits > 12 else 1) if irreversible else 0)


KINDS = {"jpeg2000": (jpeg2000, jpeg2000_random)}



def main():
    out = os.path.join(HERE, "golden.zip")
    if len(sys.argv) > 2:
        out = sys.argv[2]
        r = random.Random(int(os.environ.get("SEED", "1")))
        for kind in sys.argv[3:] or KINDS:
            done = 0
            while done < int(sys.argv[1]):
                try:
                    KINDS[kind][1](r)
                    done += 1
                except Refused:
                    pass
    else:
        for make, _ in KINDS.values():
            make()
    files["expect.json"] = json.dumps(cases, indent=1).encode()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name in sorted(files):
            z.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    print(len(cases), "frames,", os.path.getsize(out), "bytes")


main()
