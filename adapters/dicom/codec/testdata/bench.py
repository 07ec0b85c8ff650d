"""Measures the reference decoders on the frames of BenchmarkDecode, in process and on one thread, and the ratio to its figures.

Run: go test -run '^$' -bench Decode -count 5 ./adapters/dicom/codec > ours.txt
     python bench.py /folder/of/shared/data ours.txt

References: OpenJPEG, CharLS, libjpeg-turbo and an RLE decoder in C, all by imagecodecs. What counts is the least
processor time of all runs, for other work on the machine only adds to it.
"""
import os, re, sys, time

import imagecodecs
import pydicom
from pydicom.encaps import generate_frames

FRAMES = ["codecs_wg04/CT1/CT1_RLE.dcm", "codecs_wg04/CT1/CT1_JPLL.dcm", "codecs_wg04/MR1/MR1_JPLL.dcm", "codecs_wg04/MR1/MR1_JPLY.dcm",
          "codecs_wg04/CT1/CT1_JLSL.dcm", "codecs_wg04/CT1/CT1_JLSN.dcm", "codecs_wg04/MR1/MR1_JLSL.dcm",
          "codecs_wg04/CT1/CT1_J2KR.dcm", "codecs_wg04/CT1/CT1_J2KI.dcm", "codecs_wg04/MR1/MR1_J2KR.dcm", "codecs_wg04/US1/US1_J2KR.dcm",
          "ct_abdomen_siemens_j2k/series/CT.1.3.12.2.1107.5.1.4.60064.30000022120808113428000016583"]


def decoder(uid):
    last = uid.rsplit(".", 1)[1]
    if last == "5":
        return lambda b: imagecodecs.dicomrle_decode(b, "<u2")
    if last in ("50", "51", "57", "70"):
        return imagecodecs.jpeg8_decode
    if last in ("80", "81"):
        return imagecodecs.jpegls_decode
    return lambda b: imagecodecs.jpeg2k_decode(b, numthreads=1)


ours = {}
for line in open(sys.argv[2]):
    if m := re.match(r"BenchmarkDecode/(\S+?)(-\d+)?\s.*\s(\S+) least-ms", line):
        ours.setdefault(m[1], []).append(float(m[3]))
print("| frame | reference, ms | ours, ms | speed of ours to the reference's |\n|---|---|---|---|")
for name in FRAMES:
    d = pydicom.dcmread(os.path.join(sys.argv[1], "dicom", name))
    data = next(generate_frames(d.PixelData, number_of_frames=1))
    decode = decoder(d.file_meta.TransferSyntaxUID)
    times = []
    for _ in range(40):
        start = time.process_time()
        decode(data)
        times.append(time.process_time() - start)
    reference = min(times) * 1e3
    base = os.path.basename(name)
    mine = min(ours.get(base, [float("nan")]))
    print(f"| {base[:16]} | {reference:.2f} | {mine:.2f} | {reference / mine:.2f} |")
