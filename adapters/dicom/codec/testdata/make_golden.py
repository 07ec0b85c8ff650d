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
    raw = want.astype(dtype(bits, signed)).tobytes()
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
        openjpeg(f"j2k_{order}", picture(37, 45, 3, 8, False), 8, False, "-p", order, "-c", "[32,16],[16,16]", "-b", "8,8", "-r", "20,6,1",
                 *(["-SOP", "-EPH"] if i % 2 else []))
        openjpeg(f"j2k_{order}_tiles", g, 12, False, "-p", order, "-t", "23,19", "-r", "12,1", "-b", "16,4", "-TP", "RLC"[i % 3],
                 "-d", f"{5 + i},{3 + 2 * i}", "-T", f"{i},{i % 3}", "-n", 2 + i % 4)
    for m in [1, 2, 4, 8, 16, 32, 5, 9, 13, 42, 63]:
        openjpeg(f"j2k_style_{m}", g, 12, False, "-M", m, "-b", "32,32", "-r", "8,1")
    openjpeg("j2k_region", picture(37, 45, 3, 8, False), 8, False, "-ROI", "c=1,U=9", "-mct", 0)
    # Changes of the order between layers come out of opj_compress 2.5.0 with packets missing.
    openjpeg("j2k_poc", picture(37, 45, 3, 8, False), 8, False, "-n", 4, "-r", "9,1", "-POC", "T1=0,0,2,2,3,CPRL/T1=2,0,2,4,3,LRCP")
    openjpeg("j2k_one_resolution", g, 12, False, "-n", 1)
    openjpeg("j2k_boxes", picture(37, 45, 3, 8, False), 8, False, ext="jp2")
    openjpeg("j2k_no_mct", picture(37, 45, 3, 8, False), 8, False, "-mct", 0)
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
    rearranged()
    # OpenJPEG 2.5.0 scales high-pass coefficients by 1.625732422 where the standard's 2/K is 1.625786132: up to 2 in 16 bits.
    openjpeg("j2k_97", g, 12, False, "-I", "-r", "10", lossless=False, tolerance=1)
    openjpeg("j2k_97_colour", picture(37, 45, 3, 8, False), 8, False, "-I", "-r", "30,10,4", "-t", "32,24", "-n", 3, lossless=False, tolerance=1)
    openjpeg("j2k_97_signed", picture(47, 61, 1, 16, True), 16, True, "-I", "-r", "5", "-M", 1, lossless=False, tolerance=2)
    openjpeg("j2k_97_region", picture(47, 61, 1, 8, False), 8, False, "-I", "-r", "5", "-ROI", "c=0,U=10", lossless=False, tolerance=1)
    openjpeg("j2k_53_lossy", g, 12, False, "-r", "10", lossless=False, tolerance=0)
    openjpeg("j2k_53_lossy_colour", picture(37, 45, 3, 8, False), 8, False, "-r", "15", lossless=False, tolerance=0)


def packets(data):
    """Splits a one-tile codestream with SOP and EPH markers: the main header without them in its COD, and [header, body] of packets."""
    at = data.index(b"\xff\x90")
    head, rest = bytearray(data[:at]), data[at + 14 : -2]
    head[head.index(b"\xff\x52") + 4] &= 0xF9
    out = []
    for p in rest.split(b"\xff\x91\0\4")[1:]:
        out.append(list(p[2:].split(b"\xff\x92", 1)))
    return bytes(head), out


def part(body, markers=b""):
    return b"\xff\x90\0\x0a\0\0" + (14 + len(markers) + len(body)).to_bytes(4, "big") + b"\0\1" + markers + b"\xff\x93" + body


def marker(m, body):
    return bytes([255, m]) + (len(body) + 2).to_bytes(2, "big") + body


def rearranged():
    """What opj_compress cannot write, but opj_decompress must read: packed packet headers, order changes between layers."""
    a = picture(47, 61, 1, 8, False)
    openjpeg("", a, 8, False, "-n", 4, "-r", "20,6,1", "-SOP", "-EPH", "-b", "16,16")
    cases.pop()
    head, list_ = packets(files.pop(""))
    assert len(list_) == 12
    headers, bodies = (b"".join(p[i] for p in list_) for i in (0, 1))
    half = len(headers) // 2
    new = {
        "j2k_ppt": head + part(bodies, marker(0x61, b"\0" + headers[:half]) + marker(0x61, b"\1" + headers[half:])),
        "j2k_ppm": head + marker(0x60, b"\0" + len(headers).to_bytes(4, "big") + headers[:half]) + marker(0x60, b"\1" + headers[half:]) + part(bodies),
    }
    order = [(l, r) for r in range(3) for l in range(2)]  # RLCP of two layers and three resolutions, then the rest by layer
    order += [p for l in range(3) for r in range(4) if (p := (l, r)) not in order]
    entries = b"".join(bytes([r0, 0, 0, layers, r1, 1, o]) for r0, layers, r1, o in [(0, 2, 3, 1), (0, 3, 4, 0)])
    body = b"".join(b"".join(list_[4 * l + r]) for l, r in order)
    new["j2k_poc_layers"] = head + marker(0x5F, entries) + part(body)
    new["j2k_poc_tile"] = head + part(body, marker(0x5F, entries))
    for name, data in new.items():
        data += b"\xff\xd9"
        with open(path("in.j2k"), "wb") as f:
            f.write(data)
        run("opj_decompress", "-i", path("in.j2k"), "-o", path("back.rawl"))
        assert (np.fromfile(path("back.rawl"), "u1").reshape(a.shape) == a).all(), name
        add(name, J2K_LOSSLESS, data, a, 8)


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


# JPEG

def turbo(name, a, bits, *, tolerance=0, **options):
    """By libjpeg-turbo in imagecodecs; the components' colours are left as they are."""
    x = np.squeeze(a.astype(dtype(bits, False)), -1) if a.shape[2] == 1 else a.astype(dtype(bits, False))
    colours = dict(colorspace="RGB", outcolorspace="YCBCR") if a.shape[2] == 3 and not options.get("lossless") else {}
    data = imagecodecs.jpeg8_encode(x, bitspersample=bits, **colours, **options)
    if options.get("lossless"):
        add(name, LOSSLESS_SV1 if options["predictor"] == 1 else LOSSLESS, data, a, bits)
    else:
        back = imagecodecs.jpeg8_decode(data, **({"outcolorspace": "YCBCR"} if colours else {}))
        add(name, BASELINE if bits == 8 else EXTENDED, data, back, bits, tolerance=tolerance)


def cjpeg(name, a, *options, scans=""):
    h, w, n = a.shape
    with open(path("in.pnm"), "wb") as f:
        f.write(b"P%d %d %d 255\n" % (6 if n == 3 else 5, w, h) + a.astype("u1").tobytes())
    if scans:
        with open(path("scans"), "w") as f:
            f.write(scans)
        options += ("-scans", path("scans"))
    run("cjpeg", *options, "-outfile", path("out.jpg"), path("in.pnm"))
    data = read("out.jpg")
    add(name, BASELINE, data, imagecodecs.jpeg8_decode(data, **({"outcolorspace": "YCBCR"} if n == 3 else {})), 8)


def dicom(a, bits, signed):
    h, w, n = a.shape
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = "1.2.3"
    d.Rows, d.Columns, d.SamplesPerPixel, d.BitsStored, d.HighBit = h, w, n, bits, bits - 1
    d.BitsAllocated = 8 if bits <= 8 else 16
    d.PixelRepresentation = int(signed)
    d.PhotometricInterpretation = "RGB" if n == 3 else "MONOCHROME2"
    if n == 3:
        d.PlanarConfiguration = 0
    d.PixelData = a.astype(dtype(bits, signed)).tobytes() + b"\0" * (a.size * d.BitsAllocated // 8 % 2)
    d["PixelData"].VR = "OB" if bits <= 8 else "OW"
    d.save_as(path("in.dcm"), enforce_file_format=True)


def dcmtk(name, tool, a, bits, signed, *options, want=None, decoder=None, tolerance=0, back_bits=None):
    dicom(a, bits, signed)
    run(tool, *options, path("in.dcm"), path("out.dcm"))
    d = pydicom.dcmread(path("out.dcm"))
    data = next(pydicom.encaps.generate_frames(d.PixelData, number_of_frames=1))
    if want is None:
        want = a
    if decoder:
        run(*decoder, path("out.dcm"), path("back.dcm"))
        b = pydicom.dcmread(path("back.dcm"))
        want = np.frombuffer(b.PixelData, dtype(b.BitsAllocated, signed))[: a.size].reshape(a.shape).astype(np.int64)
    add(name, str(d.file_meta.TransferSyntaxUID), data, want, d.BitsStored, signed, tolerance=tolerance)


class BitWriter:
    def __init__(self):
        self.out, self.acc, self.n = bytearray(), 0, 0

    def put(self, v, n):
        self.acc, self.n = self.acc << n | v, self.n + n
        while self.n >= 8:
            self.n -= 8
            b = self.acc >> self.n & 255
            self.out += b"\xff\0" if b == 255 else bytes([b])
        self.acc &= (1 << self.n) - 1

    def flush(self):
        if self.n:
            self.put((1 << (8 - self.n)) - 1, 8 - self.n)


def lossless_with_restarts(name, a, bits, predictor, lines, interleaved):
    """Written here, for no coder at hand restarts lossless scans; libjpeg-turbo, or jpegsof3, must read it."""
    h, w, n = a.shape
    seg = lambda m, b: bytes([255, m]) + (len(b) + 2).to_bytes(2, "big") + b
    out = b"\xff\xd8" + seg(0xC3, bytes([bits]) + h.to_bytes(2, "big") + w.to_bytes(2, "big") + bytes([n])
                            + b"".join(bytes([i + 1, 0x11, 0]) for i in range(n)))
    out += seg(0xC4, b"\0" + bytes([0, 0, 0, 0, 17] + [0] * 11) + bytes(range(17)))  # codes of 5 bits
    out += seg(0xDD, (lines * w).to_bytes(2, "big"))
    for scan in [range(n)] if interleaved else [[c] for c in range(n)]:
        out += seg(0xDA, bytes([len(scan)]) + b"".join(bytes([c + 1, 0]) for c in scan) + bytes([predictor, 0, 0]))
        bw = BitWriter()
        for y in range(h):
            start = y % lines == 0
            if start and y:
                bw.flush()
                bw.out += bytes([255, 0xD0 + (y // lines - 1) % 8])
            for x in range(w):
                for c in scan:
                    ra, rb, rc = (int(a[y - j, x - i, c]) if x >= i and y >= j else 0 for i, j in [(1, 0), (0, 1), (1, 1)])
                    if start:
                        p = ra if x else 1 << (bits - 1)
                    elif x == 0:
                        p = rb
                    else:
                        p = [0, ra, rb, rc, ra + rb - rc, ra + (rb - rc >> 1), rb + (ra - rc >> 1), ra + rb >> 1][predictor]
                    diff = int(a[y, x, c]) - p & 0xFFFF
                    diff = diff - 65536 if diff > 32768 else diff
                    size = abs(diff).bit_length()
                    bw.put(size, 5)
                    if size < 16:
                        bw.put(diff if diff >= 0 else diff + (1 << size) - 1, size)
        bw.flush()
        out += bytes(bw.out)
    out += b"\xff\xd9"
    back = imagecodecs.jpeg8_decode(out, **({"colorspace": "RGB", "outcolorspace": "RGB"} if n == 3 else {}))
    assert (back.reshape(a.shape) == a).all(), name
    add(name, LOSSLESS, out, a, bits)


def jpeg():
    grey, colour = picture(47, 61, 1, 8, False), picture(37, 45, 3, 8, False)
    turbo("jpeg_8", grey, 8, level=80)
    turbo("jpeg_8_coarse", grey, 8, level=5)
    turbo("jpeg_12", picture(47, 61, 1, 12, False), 12, level=95)
    turbo("jpeg_12_colour", picture(37, 45, 3, 12, False), 12, level=90, subsampling="422")
    for s in ["444", "422", "420", "411", "440"]:
        turbo(f"jpeg_{s}", colour, 8, level=85, subsampling=s)
    for h, w in [(1, 1), (3, 2), (9, 5), (16, 17)]:
        turbo(f"jpeg_{h}x{w}", picture(h, w, 3, 8, False), 8, level=85, subsampling="420")
    cjpeg("jpeg_restart", grey, "-restart", "3B", "-quality", 70)
    cjpeg("jpeg_restart_rows", colour, "-restart", 1, "-sample", "2x1")
    cjpeg("jpeg_scans", colour, "-sample", "2x2", "-restart", "5B", scans="0;1;2;")
    cjpeg("jpeg_scans_pair", colour, "-sample", "1x2", scans="0;1 2;")
    dcmtk("jpeg_dcmtk_8", "dcmcjpeg", grey, 8, False, "+eb", "+q", 75, decoder=["dcmdjpeg"])
    dcmtk("jpeg_dcmtk_12", "dcmcjpeg", picture(47, 61, 1, 12, False), 12, False, "+ee", "+q", 90, decoder=["dcmdjpeg"])
    for bits in range(2, 17):
        turbo(f"jpll_{bits}", picture(33, 29, 1, bits, False), bits, lossless=True, predictor=1 + bits % 7)
    for p in range(1, 8):
        turbo(f"jpll_colour_{p}", colour, 8, lossless=True, predictor=p)
        a = picture(47, 61, 1, 16, True)
        dcmtk(f"jpll_dcmtk_{p}", "dcmcjpeg", a, 16, True, "+el", "+sv", p, "+pt", p % 3,
              want=a >> p % 3 << p % 3)
    dcmtk("jpll_dcmtk_sv1", "dcmcjpeg", picture(47, 61, 1, 12, False), 12, False, "+e1")
    turbo("jpll_noise", np.random.default_rng(3).integers(0, 1 << 16, (23, 31, 1)), 16, lossless=True, predictor=6)
    for p in range(1, 8):
        lossless_with_restarts(f"jpll_restart_{p}", picture(23, 31, 1, 12, False), 12, p, 1 + p, True)
    lossless_with_restarts("jpll_restart_colour", picture(23, 31, 3, 8, False), 8, 4, 5, True)
    lossless_with_restarts("jpll_scans", picture(23, 31, 3, 8, False), 8, 7, 4, False)


def jpeg_random(r):
    n = r.choice([1, 3])
    h, w = r.randint(1, 90), r.randint(1, 90)
    if r.random() < 0.5:
        bits = r.randint(2, 16)
        predictor = r.randint(1, 7)
        turbo(f"jpll_{len(cases)}", picture(h, w, n, bits, False, r.randint(1, 9)), bits, lossless=True, predictor=predictor)
    elif r.random() < 0.5 or h * w < 2:
        bits = r.choice([8, 8, 12])
        turbo(f"jpeg_{len(cases)}", picture(h, w, n, bits, False, r.randint(1, 9)), bits, level=r.randint(1, 100),
              **({"subsampling": r.choice(["444", "422", "420", "411", "440"])} if n == 3 else {}))
    else:
        cjpeg(f"cjpeg_{len(cases)}", picture(h, w, n, 8, False), "-quality", r.randint(1, 100), "-restart", f"{r.randint(1, 50)}B",
              *(["-sample", r.choice(["1x1", "2x1", "2x2", "1x2", "4x1", "2x2,2x1,1x1", "2x2,1x2,2x1"])] if n == 3 else []))


# JPEG-LS

def charls(name, a, bits, near=0, mode=0):
    h, w, n = a.shape
    order = a.transpose(2, 0, 1) if n > 1 and mode == 0 else a
    try:
        data = bytes(jpeg_ls.encode_buffer(order.astype(dtype(bits, False)).tobytes(), h, w, n, bits, near, mode if n > 1 else 0))
    except RuntimeError as e:
        raise Refused(name) from e
    want = imagecodecs.jpegls_decode(data).reshape(a.shape).astype(np.int64)
    if abs(want - a).max() > near:
        raise Refused(name)
    add(name, JLS_NEAR if near else JLS, data, want, bits)


def jls_with_restarts(name, a, bits, lines):
    """Strips coded alone by CharLS and joined with restart markers, for no coder at hand writes them; CharLS must read it."""
    h, w, n = a.shape
    body, head = b"", b""
    for i, y in enumerate(range(0, h, lines)):
        strip = np.ascontiguousarray(a[y : y + lines, :, 0].astype(dtype(bits, False)))
        d = bytes(jpeg_ls.encode_buffer(strip.tobytes(), strip.shape[0], w, 1, bits, 0, 0))
        at = d.index(b"\xff\xda") + 10
        if i:
            body += bytes([255, 0xD0 + (i - 1) % 8])
        else:
            sof = d.index(b"\xff\xf7")
            head = d[: sof + 5] + h.to_bytes(2, "big") + d[sof + 7 : at - 10] + b"\xff\xdd\0\4" + lines.to_bytes(2, "big") + d[at - 10 : at]
        body += d[at:-2]
    data = head + body + b"\xff\xd9"
    assert (imagecodecs.jpegls_decode(data).reshape(a.shape) == a).all(), name
    add(name, JLS, data, a, bits)


def jpegls():
    for bits in range(2, 17):
        charls(f"jls_{bits}", picture(33, 29, 1, bits, False), bits)
    for near in [1, 2, 5, 40]:
        charls(f"jls_near_{near}_8", picture(33, 29, 1, 8, False), 8, near)
        charls(f"jls_near_{near}_12", picture(33, 29, 1, 12, False), 12, near)
    for mode in range(3):
        charls(f"jls_mode_{mode}", picture(33, 29, 3, 8, False), 8, 0, mode)
        charls(f"jls_mode_{mode}_near", picture(33, 29, 3, 8, False), 8, 3, mode)
        charls(f"jls_mode_{mode}_12", picture(33, 29, 3, 12, False), 12, 0, mode)
    charls("jls_noise", np.random.default_rng(3).integers(0, 1 << 16, (23, 31, 1)), 16)
    charls("jls_flat", np.full((40, 700, 1), 77), 8)
    for h, w in [(1, 1), (1, 9), (9, 1), (1, 70)]:
        a = picture(h, w, 1, 8, False)
        add(f"jls_{h}x{w}", JLS, imagecodecs.jpegls_encode(a[:, :, 0].astype("u1")), a, 8)
    a = picture(33, 29, 1, 12, False)
    dcmtk("jls_dcmtk_thresholds", "dcmcjpls", a, 12, False, "+t1", 9, "+t2", 40, "+t3", 200, "+rs", 31, "+pc")
    dcmtk("jls_dcmtk_near", "dcmcjpls", a, 12, False, "+en", "+md", 3, "+pc", decoder=["dcmdjpls"])
    dcmtk("jls_dcmtk_signed", "dcmcjpls", picture(33, 29, 1, 16, True), 16, True, "+el")
    for lines in [1, 4, 11]:
        jls_with_restarts(f"jls_restart_{lines}", picture(33, 29, 1, 12, False), 12, lines)


def jpegls_random(r):
    n, bits = r.choice([1, 1, 3]), r.randint(2, 16)
    a = picture(r.randint(1, 90), r.randint(1, 90), n, bits, False, r.randint(1, 9))
    if r.random() < 0.3:
        a = a >> r.randint(0, bits - 1)
    charls(f"jls_{len(cases)}", a, bits, r.choice([0, 0, r.randint(0, min(255, (1 << bits) // 2 - 1))]), r.randint(0, 2))


def run_lengths():
    for bits, signed, n in [(8, False, 1), (8, False, 3), (12, False, 1), (16, True, 1), (16, False, 3)]:
        a = picture(33, 29, n, bits, signed)
        dcmtk(f"rle_dcmtk_{bits}_{n}", "dcmcrle", a, bits, signed)
    a = picture(23, 31, 1, 12, False)
    data = pydicom.pixels.get_encoder(RLE).encode(a.astype("<u2").tobytes(), rows=23, columns=31, samples_per_pixel=1, number_of_frames=1,
                                                  bits_allocated=16, bits_stored=12, pixel_representation=0,
                                                  photometric_interpretation="MONOCHROME2", encoding_plugin="pydicom")
    add("rle_pydicom", RLE, data, a, 12)


KINDS = {"rle": (run_lengths, None), "jpeg2000": (jpeg2000, jpeg2000_random), "jpeg": (jpeg, jpeg_random), "jpegls": (jpegls, jpegls_random)}


def main():
    out = os.path.join(HERE, "golden.zip")
    if len(sys.argv) > 2:
        out = sys.argv[2]
        r = random.Random(int(os.environ.get("SEED", "1")))
        for kind in sys.argv[3:] or [k for k in KINDS if KINDS[k][1]]:
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
