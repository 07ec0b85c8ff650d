package codec_test

import (
	"path/filepath"
	"testing"

	"scrawl/adapters/dicom/codec"
)

// BenchmarkDecode decodes 512×512 frames of 16 bits. testdata/bench.py measures the reference decoders on the same frames.
func BenchmarkDecode(b *testing.B) {
	dir := filepath.Join(sharedData(b), "dicom")
	for _, name := range []string{
		"codecs_wg04/CT1/CT1_RLE.dcm", "codecs_wg04/CT1/CT1_J2KR.dcm", "codecs_wg04/CT1/CT1_J2KI.dcm", "codecs_wg04/MR1/MR1_J2KR.dcm",
		"ct_abdomen_siemens_j2k/series/CT.1.3.12.2.1107.5.1.4.60064.30000022120808113428000016583",
	} {
		p := readPart10(b, filepath.Join(dir, name))
		b.Run(filepath.Base(name), func(b *testing.B) {
			b.SetBytes(int64(p.Rows * p.Columns * p.Samples * p.BitsAllocated / 8))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := codec.Decode(p.syntax, p.frames[0], p.Frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
