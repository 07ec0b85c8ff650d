package volume

import "errors"

// What goes wrong with a file, for callers that answer differently to each. Decoders wrap exactly one of them; an error of the
// reader itself (a closed connection, a cancelled upload) is passed on as it is.
var (
	// ErrFormat: the bytes are not what their format or their own header says.
	ErrFormat = errors.New("malformed data")
	// ErrTooLarge: the file declares or contains more than the Limits allow.
	ErrTooLarge = errors.New("larger than the limit")
	// ErrUnsupported: legal in its format, but not something that fits a Volume or a LabelMap.
	ErrUnsupported = errors.New("not supported")
)
