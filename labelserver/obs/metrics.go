package obs

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Metrics is a set of counters, gauges and histograms that writes itself in Prometheus' text exposition format 0.0.4. It is safe
// for concurrent use. Label values must come from small sets (routes, not paths): every combination is kept.
type Metrics struct {
	mu       sync.Mutex
	families map[string]*family
}

type family struct {
	name, help, kind string
	buckets          []float64
	series           map[string]*series
	read             func() float64
}

type series struct {
	value  float64
	counts []uint64
	count  uint64
}

// NewMetrics returns an empty set.
func NewMetrics() *Metrics { return &Metrics{families: make(map[string]*family)} }

// Counter is a value that only grows.
type Counter struct {
	m *Metrics
	f *family
}

// Histogram counts observations in buckets.
type Histogram struct {
	m *Metrics
	f *family
}

// Counter adds a counter. A name used twice gives the same counter.
func (m *Metrics) Counter(name, help string) *Counter {
	return &Counter{m, m.add(name, help, "counter", nil, nil)}
}

// Histogram adds a histogram with the given upper bounds in ascending order.
func (m *Metrics) Histogram(name, help string, buckets ...float64) *Histogram {
	return &Histogram{m, m.add(name, help, "histogram", buckets, nil)}
}

// Gauge adds a value that is read whenever metrics are written. The function must not block.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	m.add(name, help, "gauge", nil, read)
}

func (m *Metrics) add(name, help, kind string, buckets []float64, read func() float64) *family {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f, ok := m.families[name]; ok {
		return f
	}
	f := &family{name: name, help: help, kind: kind, buckets: buckets, series: make(map[string]*series), read: read}
	m.families[name] = f
	return f
}

// Add adds to the counter of these labels, given as alternating names and values.
func (c *Counter) Add(n float64, labels ...string) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.f.at(labels).value += n
}

// Observe counts a value under these labels, given as alternating names and values.
func (h *Histogram) Observe(v float64, labels ...string) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	s := h.f.at(labels)
	s.count++
	s.value += v
	for i, bound := range h.f.buckets {
		if v <= bound {
			s.counts[i]++
		}
	}
}

func (f *family) at(labels []string) *series {
	key := labelText(labels)
	s, ok := f.series[key]
	if !ok {
		s = &series{counts: make([]uint64, len(f.buckets))}
		f.series[key] = s
	}
	return s
}

func labelText(labels []string) string {
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labels[i] + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(labels[i+1]) + `"`)
	}
	return b.String()
}

// WriteTo implements io.WriterTo, in order of names.
func (m *Metrics) WriteTo(w io.Writer) (int64, error) {
	m.mu.Lock()
	names := make([]string, 0, len(m.families))
	for name := range m.families {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		m.families[name].write(&b)
	}
	m.mu.Unlock()
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (f *family) write(b *strings.Builder) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
	if f.read != nil {
		fmt.Fprintf(b, "%s %s\n", f.name, metricNumber(f.read()))
		return
	}
	keys := make([]string, 0, len(f.series))
	for key := range f.series {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		s := f.series[key]
		if f.kind == "counter" {
			fmt.Fprintf(b, "%s%s %s\n", f.name, braces(key), metricNumber(s.value))
			continue
		}
		for i, bound := range f.buckets {
			fmt.Fprintf(b, "%s_bucket%s %d\n", f.name, braces(key, `le="`+metricNumber(bound)+`"`), s.counts[i])
		}
		fmt.Fprintf(b, "%s_bucket%s %d\n", f.name, braces(key, `le="+Inf"`), s.count)
		fmt.Fprintf(b, "%s_sum%s %s\n%s_count%s %d\n", f.name, braces(key), metricNumber(s.value), f.name, braces(key), s.count)
	}
}

func braces(parts ...string) string {
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	if len(parts) == 0 {
		return ""
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func metricNumber(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
