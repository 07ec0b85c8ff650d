//go:build unix

package codec_test

import (
	"math"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"scrawl/adapters/dicom/codec"
)

// BenchmarkDecode decodes 512×512 frames of 16 bits. testdata/bench.py measures the reference decoders on the same frames and compares
// the least processor time of each, which other work on the machine disturbs least.
func BenchmarkDecode(b *testing.B) {
	dir := filepath.Join(sharedData(b), "dicom")
	for _, name := range []string{
		"codecs_wg04/CT1/CT1_RLE.dcm", "codecs_wg04/CT1/CT1_JPLL.dcm", "codecs_wg04/MR1/MR1_JPLL.dcm", "codecs_wg04/MR1/MR1_JPLY.dcm",
		"codecs_wg04/CT1/CT1_JLSL.dcm", "codecs_wg04/CT1/CT1_JLSN.dcm", "codecs_wg04/MR1/MR1_JLSL.dcm",
		"codecs_wg04/CT1/CT1_J2KR.dcm", "codecs_wg04/CT1/CT1_J2KI.dcm", "codecs_wg04/MR1/MR1_J2KR.dcm", "codecs_wg04/US1/US1_J2KR.dcm",
		"ct_abdomen_siemens_j2k/series/CT.1.3.12.2.1107.5.1.4.60064.30000022120808113428000016583",
	} {
		p := readPart10(b, filepath.Join(dir, name))
		b.Run(filepath.Base(name), func(b *testing.B) {
			b.SetBytes(int64(p.Rows * p.Columns * p.Samples * p.BitsAllocated / 8))
			b.ReportAllocs()
			least := time.Duration(math.MaxInt64)
			for b.Loop() {
				start := processorTime(b)
				if _, err := codec.Decode(p.syntax, p.frames[0], p.Frame); err != nil {
					b.Fatal(err)
				}
				least = min(least, processorTime(b)-start)
			}
			b.ReportMetric(float64(least.Microseconds())/1000, "least-ms")
		})
	}
}

// processorTime is what the process has used so far, the garbage collector's included.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
