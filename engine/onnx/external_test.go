package onnx_test

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/onnxpb"
)

// outside moves the data of a model's raw initializers into a file of that name, one behind the other with a gap between; change may damage
// the entries of the first.
func outside(t *testing.T, model []byte, file string, change func(key, value string) string) (rest, data []byte) {
	t.Helper()
	pb := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(model, pb); err != nil {
		t.Fatal(err)
	}
	first := true
	for _, v := range pb.Graph.Initializer {
		if len(v.RawData) == 0 {
			continue
		}
		data = append(data, 0, 0, 0, 0)
		for _, e := range [][2]string{{"location", file}, {"offset", strconv.Itoa(len(data))}, {"length", strconv.Itoa(len(v.RawData))}} {
			if first && change != nil {
				e[1] = change(e[0], e[1])
			}
			v.ExternalData = append(v.ExternalData, &onnxpb.StringStringEntryProto{Key: proto.String(e[0]), Value: proto.String(e[1])})
		}
		data = append(data, v.RawData...)
		v.RawData, v.DataLocation, first = nil, onnxpb.TensorProto_EXTERNAL.Enum(), false
	}
	if first {
		t.Fatal("the model has no initializer with raw data")
	}
	rest, err := proto.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	return rest, data
}

func TestInline(t *testing.T) {
	model, err := os.ReadFile("testdata/unet_group_corners_13.onnx")
	if err != nil {
		t.Fatal(err)
	}
	want, err := onnx.Parse(model)
	if err != nil {
		t.Fatal(err)
	}
	rest, data := outside(t, model, "net.onnx.data", nil)
	files := fstest.MapFS{"net.onnx.data": {Data: data}}
	whole, err := onnx.Inline(rest, files, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	got, err := onnx.Parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(equalTensors)); diff != "" {
		t.Errorf("the model is another one:\n%s", diff)
	}
	if same, err := onnx.Inline(model, fstest.MapFS{}, 1); err != nil || !bytes.Equal(same, model) {
		t.Errorf("a model of one file is changed: %v", err)
	}
	if same, err := onnx.Inline([]byte("a location, but no model"), fstest.MapFS{}, 100); err != nil || len(same) != 24 {
		t.Errorf("what is no model is left to Parse: %v", err)
	}
	if _, err := onnx.Inline(rest, files, int64(len(rest)+len(data)-100)); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("more than the limit is read: %v", err)
	}
	if _, err := onnx.Inline(rest, fstest.MapFS{}, 1<<20); err == nil || !strings.Contains(err.Error(), "net.onnx.data") || !strings.Contains(err.Error(), "beside the model") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestInlineRefuses(t *testing.T) {
	model, err := os.ReadFile("testdata/unet_group_corners_13.onnx")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ key, value, says string }{
		{"location", "../net.onnx.data", "own folder"},
		{"location", `..\net.onnx.data`, "own folder"},
		{"location", "/etc/passwd", "own folder"},
		{"location", "", "own folder"},
		{"offset", "-4", "not a number of bytes"},
		{"offset", "many", "not a number of bytes"},
		{"offset", "9223372036854775807", "are wanted"},
		{"length", "9223372036854775807", "are wanted"},
		{"length", "1", "needs 144"}, // which Parse finds
	} {
		t.Run(c.key+" "+c.value, func(t *testing.T) {
			rest, data := outside(t, model, "net.onnx.data", func(key, value string) string {
				if key == c.key {
					return c.value
				}
				return value
			})
			whole, err := onnx.Inline(rest, fstest.MapFS{"net.onnx.data": {Data: data}}, 1<<20)
			if err == nil {
				_, err = onnx.Parse(whole)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}
