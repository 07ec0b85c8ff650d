package obs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestLogFileTurnsOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "app.log")
	l, err := OpenLogFile(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if _, err := fmt.Fprintf(l, "record %02d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{path, path + ".1"} {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 100 {
			t.Errorf("%s: %v, %v, want at most 100 bytes", name, info, err)
		}
	}
	text, err := l.Tail(0)
	if err != nil || !strings.HasSuffix(string(text), "record 29\n") {
		t.Errorf("Tail(0) = %q, %v", text, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write([]byte("late")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close gives %v", err)
	}
	again, err := OpenLogFile(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if kept, err := again.Tail(0); err != nil || string(kept) != string(text) {
		t.Errorf("reopening changed the log to %q, %v", kept, err)
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	l, err := OpenLogFile(path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if text, err := l.Tail(3); err != nil || len(text) != 0 {
		t.Errorf("Tail of an empty log is %q, %v", text, err)
	}
	if _, err := l.Write([]byte("a\nb\nc\n")); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{0: "a\nb\nc\n", 1: "c\n", 2: "b\nc\n", 3: "a\nb\nc\n", 9: "a\nb\nc\n"} {
		if got, err := l.Tail(lines); err != nil || string(got) != want {
			t.Errorf("Tail(%d) = %q, %v, want %q", lines, got, err, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Tail(1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Tail of a file that is gone gives %v", err)
	}
}

func TestLogger(t *testing.T) {
	l, err := OpenLogFile(filepath.Join(t.TempDir(), "app.log"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var terminal strings.Builder
	log, err := NewLogger(LogOptions{Level: "info", JSON: true, Terminal: &terminal, File: l})
	if err != nil {
		t.Fatal(err)
	}
	log.Debug().Msg("hidden")
	log.Info().Str("image", "case_0").Msg("answered")
	if got := terminal.String(); !strings.Contains(got, `"image":"case_0"`) || strings.Contains(got, "hidden") {
		t.Errorf("terminal shows %q", got)
	}
	if text, err := l.Tail(0); err != nil || !strings.Contains(string(text), "answered image=case_0") {
		t.Errorf("file holds %q, %v", text, err)
	}
	if _, err := NewLogger(LogOptions{Level: "loud"}); err == nil {
		t.Error("level loud is taken")
	}
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	requests := m.Counter("requests_total", "Requests.")
	took := m.Histogram("seconds", "Time taken.", 0.1, 1)
	m.Gauge("up", "One.", func() float64 { return 1 })
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			requests.Add(1, "route", `/a"b`, "code", "200")
			took.Observe(0.5)
		})
	}
	wait.Wait()
	var b strings.Builder
	if _, err := m.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	want := `# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{route="/a\"b",code="200"} 4
# HELP seconds Time taken.
# TYPE seconds histogram
seconds_bucket{le="0.1"} 0
seconds_bucket{le="1"} 4
seconds_bucket{le="+Inf"} 4
seconds_sum 2
seconds_count 4
# HELP up One.
# TYPE up gauge
up 1
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestRequestID(t *testing.T) {
	if id := RequestID(context.Background()); id != "" {
		t.Errorf("no id, got %q", id)
	}
	if id := RequestID(WithRequestID(context.Background(), "x")); id != "x" {
		t.Errorf("got %q, want x", id)
	}
}
