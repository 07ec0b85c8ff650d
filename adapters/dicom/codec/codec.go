// Package codec decodes the compressed pixels of DICOM images (PS3.5, section 8.2 and annex A.4), in Go. It takes the bytes of one
// frame, with its fragments already joined, and knows no DICOM parser.
//
//	1.2.840.10008.1.2.5     RLE Lossless            PS3.5 annex G; 8, 16, 24, 32 bits allocated
//	1.2.840.10008.1.2.4.50  JPEG baseline           ISO 10918-1, Huffman coded sequential DCT: 8 and 12 bits, any sampling by whole
//	1.2.840.10008.1.2.4.51  JPEG extended           factors, restarts. Not: progressive, arithmetic, hierarchical
//	1.2.840.10008.1.2.4.57  JPEG lossless           process 14: 2 to 16 bits, all predictors, point transform, restarts
//	1.2.840.10008.1.2.4.70  JPEG lossless SV1       the same
//	1.2.840.10008.1.2.4.80  JPEG-LS lossless        ISO 14495-1: 2 to 16 bits, all interleave modes, preset parameters, restarts.
//	1.2.840.10008.1.2.4.81  JPEG-LS near-lossless   Not: mapping tables, point transform, sub-sampling, HP's colour transforms
//	1.2.840.10008.1.2.4.90  JPEG 2000 lossless      ISO 15444-1, bare codestreams and JP2 files: both wavelets and colour
//	1.2.840.10008.1.2.4.91  JPEG 2000               transforms, tiles and tile-parts, layers, precincts, all progressions and their
//	                                                changes, all code block styles, packed headers, max-shift regions of interest,
//	                                                1 to 28 bits. Not: sub-sampled or differing components, high throughput
//
// Samples come back as the stream holds them after its own colour transform: JPEG 2000's components are transformed back (YBR_RCT
// and YBR_ICT become RGB), those of JPEG and RLE are not (YBR_FULL and YBR_FULL_422 stay luminance and chrominance, sub-sampled
// chrominance is brought to full size). The photometric interpretation tells the caller which it is.
//
// Lossless frames come back bit for bit, JPEG's DCT equals libjpeg's accurate integer method, and JPEG 2000's irreversible wavelet is
// within rounding of other decoders. Streams with data missing are refused, never filled up: a missing end marker is all that is
// forgiven. testdata/make_golden.py holds the decoders against OpenJPEG, CharLS, libjpeg-turbo, dcmtk and pydicom, testdata/bench.py
// measures them against those: a frame takes one to two times as long as there, on one goroutine.
//
// A declared size is never believed alone: the image must be within the decoder's limit, agree with what the stream says, and be
// something that so many bytes can hold. Errors are of the kinds volume.ErrFormat, ErrTooLarge and ErrUnsupported.
package codec

import (
	"fmt"
	"math"

	"scrawl/adapters/dicom/codec/internal/frame"
	"scrawl/adapters/dicom/codec/internal/jpeg"
	"scrawl/adapters/dicom/codec/internal/jpeg2000"
	"scrawl/adapters/dicom/codec/internal/jpegls"
	"scrawl/adapters/volume"
)

// Frame is what the data set declares about a frame: the attributes of the Image Pixel module (PS3.3 C.7.6.3). The planar
// configuration is not among them, for the decoded samples are always interleaved.
type Frame struct {
	Rows, Columns int
	// Samples is the number of samples per pixel: 1, or 3 for colour.
	Samples                   int
	BitsAllocated, BitsStored int
	// HighBit is the uppermost stored bit, BitsStored − 1 if 0: only in old images are there bits below the stored ones.
	HighBit int
	// Signed is a pixel representation of 1.
	Signed bool
}

// Image is a decoded frame.
type Image struct {
	Rows, Columns   int
	SamplesPerPixel int
	// Samples holds [Rows][Columns][SamplesPerPixel] stored values, before any rescale: BitsStored bits, with their sign where the
	// frame is signed.
	Samples []int32
}

// DefaultMaxSamples allows 8192×8192 pixels of one sample, which take 256 MiB.
const DefaultMaxSamples = 1 << 26

// Decoder decodes frames. The zero value is ready for use; it may be used by many goroutines at once.
type Decoder struct {
	// MaxSamples is the largest number of samples of a frame, DefaultMaxSamples if 0. A decoded frame takes 4 bytes for each, and
	// decoding it up to 12 more.
	MaxSamples int
	// Workers is how many goroutines decode one frame where its syntax lets them, 1 if 0.
	Workers int
}

// Decode decodes a frame with the zero Decoder.
func Decode(transferSyntaxUID string, data []byte, f Frame) (Image, error) {
	return Decoder{}.Decode(transferSyntaxUID, data, f)
}

// Supported tells whether Decode knows the transfer syntax.
func Supported(transferSyntaxUID string) bool {
	_, ok := syntaxes[transferSyntaxUID]
	return ok
}

// A syntax names a transfer syntax and how its frames are decoded.
type syntax struct {
	name   string
	decode func(data []byte, f Frame, d frame.Declared) (frame.Image, error)
}

var syntaxes = map[string]syntax{
	"1.2.840.10008.1.2.5":    {"RLE Lossless", decodeRLE},
	"1.2.840.10008.1.2.4.50": {"JPEG baseline", decodeJPEG},
	"1.2.840.10008.1.2.4.51": {"JPEG extended", decodeJPEG},
	"1.2.840.10008.1.2.4.57": {"JPEG lossless", decodeJPEG},
	"1.2.840.10008.1.2.4.70": {"JPEG lossless", decodeJPEG},
	"1.2.840.10008.1.2.4.80": {"JPEG-LS lossless", decodeJPEGLS},
	"1.2.840.10008.1.2.4.81": {"JPEG-LS", decodeJPEGLS},
	"1.2.840.10008.1.2.4.90": {"JPEG 2000 lossless", decodeJPEG2000},
	"1.2.840.10008.1.2.4.91": {"JPEG 2000", decodeJPEG2000},
}

func decodeJPEG(data []byte, _ Frame, d frame.Declared) (frame.Image, error) {
	return jpeg.Decode(data, d)
}

func decodeJPEGLS(data []byte, _ Frame, d frame.Declared) (frame.Image, error) {
	return jpegls.Decode(data, d)
}

func decodeJPEG2000(data []byte, _ Frame, d frame.Declared) (frame.Image, error) {
	return jpeg2000.Decode(data, d)
}

// undecoded names transfer syntaxes of compressed images that have no decoder here, for a clear refusal.
var undecoded = map[string]string{
	"1.2.840.10008.1.2.4.52":  "JPEG extended, arithmetic coding",
	"1.2.840.10008.1.2.4.53":  "JPEG spectral selection",
	"1.2.840.10008.1.2.4.55":  "JPEG full progression",
	"1.2.840.10008.1.2.4.92":  "JPEG 2000 part 2 multi-component, lossless",
	"1.2.840.10008.1.2.4.93":  "JPEG 2000 part 2 multi-component",
	"1.2.840.10008.1.2.4.94":  "JPIP referenced",
	"1.2.840.10008.1.2.4.95":  "JPIP referenced, deflated",
	"1.2.840.10008.1.2.4.100": "MPEG-2 video",
	"1.2.840.10008.1.2.4.101": "MPEG-2 video",
	"1.2.840.10008.1.2.4.102": "MPEG-4 video",
	"1.2.840.10008.1.2.4.103": "MPEG-4 video",
	"1.2.840.10008.1.2.4.104": "MPEG-4 video",
	"1.2.840.10008.1.2.4.105": "MPEG-4 video",
	"1.2.840.10008.1.2.4.106": "MPEG-4 video",
	"1.2.840.10008.1.2.4.107": "HEVC video",
	"1.2.840.10008.1.2.4.108": "HEVC video",
	"1.2.840.10008.1.2.4.110": "JPEG XL lossless",
	"1.2.840.10008.1.2.4.111": "JPEG XL of a JPEG image",
	"1.2.840.10008.1.2.4.112": "JPEG XL",
	"1.2.840.10008.1.2.4.201": "high throughput JPEG 2000, lossless",
	"1.2.840.10008.1.2.4.202": "high throughput JPEG 2000, lossless with RPCL",
	"1.2.840.10008.1.2.4.203": "high throughput JPEG 2000",
}

// Decode decodes one frame. The result holds nothing of data.
func (d Decoder) Decode(transferSyntaxUID string, data []byte, f Frame) (Image, error) {
	s, ok := syntaxes[transferSyntaxUID]
	if !ok {
		name := undecoded[transferSyntaxUID]
		if name == "" {
			name = "not a transfer syntax of compressed images"
		}
		return Image{}, fmt.Errorf("transfer syntax %q (%s): %w: no decoder", transferSyntaxUID, name, volume.ErrUnsupported)
	}
	img, err := d.decode(s, data, f)
	if err != nil {
		return Image{}, fmt.Errorf("%s frame of %d bytes: %w", s.name, len(data), err)
	}
	return img, nil
}

func (d Decoder) decode(s syntax, data []byte, f Frame) (Image, error) {
	if err := d.check(f); err != nil {
		return Image{}, err
	}
	declared := frame.Declared{Width: f.Columns, Height: f.Rows, Components: f.Samples, Workers: max(d.Workers, 1)}
	decoded, err := s.decode(data, f, declared)
	if err != nil {
		return Image{}, err
	}
	store(decoded, f)
	return Image{Rows: f.Rows, Columns: f.Columns, SamplesPerPixel: f.Samples, Samples: decoded.Pix}, nil
}

// check refuses frames that cannot be or are too large, before anything is read.
func (d Decoder) check(f Frame) error {
	limit := d.MaxSamples
	if limit <= 0 {
		limit = DefaultMaxSamples
	}
	switch {
	case f.Rows < 1 || f.Rows > math.MaxUint16 || f.Columns < 1 || f.Columns > math.MaxUint16:
		return frame.Malformed("%d rows of %d columns, want 1 to 65535 of each", f.Rows, f.Columns)
	case f.Samples < 1 || f.Samples > 4:
		return frame.Malformed("%d samples per pixel, want 1 to 4", f.Samples)
	case f.BitsStored < 1 || f.BitsStored > f.BitsAllocated:
		return frame.Malformed("%d bits stored of %d allocated", f.BitsStored, f.BitsAllocated)
	case f.HighBit != 0 && (f.HighBit < f.BitsStored-1 || f.HighBit >= f.BitsAllocated):
		return frame.Malformed("high bit %d for %d bits stored of %d allocated", f.HighBit, f.BitsStored, f.BitsAllocated)
	case f.BitsAllocated > 32 || f.BitsStored == 32 && !f.Signed:
		return frame.Unsupported("%d bits stored of %d allocated: want at most 32 signed or 31 unsigned", f.BitsStored, f.BitsAllocated)
	case int64(f.Rows)*int64(f.Columns)*int64(f.Samples) > int64(limit):
		return fmt.Errorf("%w: %d×%d pixels of %d samples, at most %d samples are accepted",
			volume.ErrTooLarge, f.Columns, f.Rows, f.Samples, limit)
	}
	return nil
}

// store turns the samples of a stream into stored values: BitsStored bits, of which the uppermost is a sign where the frame is
// signed. A stream of fewer bits than BitsStored has its sign in its own uppermost bit. Bits above BitsStored, which old images
// use for overlays, are dropped.
func store(img frame.Image, f Frame) {
	if below := f.HighBit + 1 - f.BitsStored; f.HighBit != 0 && below > 0 && img.Precision > f.HighBit {
		for i, v := range img.Pix {
			img.Pix[i] = v >> below
		}
		img.Precision -= below
	}
	bits := min(img.Precision, f.BitsStored)
	if img.Signed == f.Signed && img.Precision <= f.BitsStored {
		return
	}
	shift := uint(32-bits) & 31
	if f.Signed {
		for i, v := range img.Pix {
			img.Pix[i] = v << shift >> shift
		}
		return
	}
	mask := int32(uint32(math.MaxUint32) >> shift)
	for i, v := range img.Pix {
		img.Pix[i] = v & mask
	}
}
