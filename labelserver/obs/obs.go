// Package obs is how the server tells what it does: a structured log on the terminal and in a file of bounded size, which
// clients read through GET /logs/, and metrics in Prometheus' text format. Records carry ids of requests, images and models,
// never names of patients or contents of files.
package obs

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// LogOptions says what is logged and where.
type LogOptions struct {
	// Level is debug, info, warn or error.
	Level string
	// JSON writes one JSON object a line to Terminal instead of text.
	JSON bool
	// Terminal is where people watch, usually os.Stderr. May be nil.
	Terminal io.Writer
	// File is the log's file. May be nil.
	File *LogFile
}

// NewLogger makes the logger that everything else is given. The file is written as plain text, since it is read by people.
func NewLogger(o LogOptions) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(o.Level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("log level %q, want debug, info, warn or error: %w", o.Level, err)
	}
	var sinks []io.Writer
	if o.Terminal != nil && o.JSON {
		sinks = append(sinks, o.Terminal)
	} else if o.Terminal != nil {
		sinks = append(sinks, plainText(o.Terminal))
	}
	if o.File != nil {
		sinks = append(sinks, plainText(o.File))
	}
	return zerolog.New(zerolog.MultiLevelWriter(sinks...)).Level(level).With().Timestamp().Logger(), nil
}

func plainText(w io.Writer) io.Writer {
	return zerolog.ConsoleWriter{Out: w, NoColor: true, TimeFormat: time.RFC3339}
}

type requestIDKey struct{}

// WithRequestID returns a context that carries a request's id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id of the request a context belongs to, "" if there is none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
