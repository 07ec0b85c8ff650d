package api

import (
	"fmt"
	"io"
)

// InferAnswer is the multipart answer of an inference (part params, then part image), laid out byte for byte as the incumbent
// does. The Slicer client reads it from the raw socket: it must go out with a Content-Length, neither chunked nor compressed,
// or the client stores a corrupt volume without noticing.
type InferAnswer struct {
	boundary         string
	head, file, tail []byte
}

// NewInferAnswer lays out the answer. The file name must be ASCII and carry the extension of the file's format.
func NewInferAnswer(params *Object, fileName string, file []byte) (*InferAnswer, error) {
	text, err := EncodePython(params)
	if err != nil {
		return nil, fmt.Errorf("encoding the answer's params: %w", err)
	}
	boundary := randomHex(16)
	head := fmt.Appendf(nil, "--%s\r\nContent-Disposition: form-data; name=\"params\"\r\nContent-Type: application/json\r\n\r\n%s\r\n", boundary, text)
	head = fmt.Appendf(head, "--%s\r\nContent-Disposition: form-data; name=\"image\"; filename=\"%s\"\r\nContent-Type: application/octet-stream\r\n\r\n",
		boundary, fileName)
	return &InferAnswer{
		boundary: boundary,
		head:     head,
		file:     file,
		tail:     fmt.Appendf(nil, "\r\n--%s--\r\n", boundary),
	}, nil
}

// ContentType is the header's value; the boundary stands unquoted.
func (a *InferAnswer) ContentType() string { return "multipart/form-data; boundary=" + a.boundary }

// Len is the number of bytes WriteTo writes.
func (a *InferAnswer) Len() int { return len(a.head) + len(a.file) + len(a.tail) }

// WriteTo implements io.WriterTo.
func (a *InferAnswer) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for _, b := range [][]byte{a.head, a.file, a.tail} {
		n, err := w.Write(b)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
