package ort

import (
	"os"
	"path/filepath"
	"testing"
)

func FuzzReadSignature(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.onnx"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no models in testdata: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sig, err := readSignature(data)
		if err != nil {
			return
		}
		for _, v := range sig.inputs {
			for _, d := range v.Shape {
				if d.Known() && d.Size < 0 {
					t.Errorf("negative size in %+v", v)
				}
			}
		}
	})
}

func BenchmarkReadSignature(b *testing.B) {
	data, err := os.ReadFile(filepath.Join("testdata", "affine.onnx"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := readSignature(data); err != nil {
			b.Fatal(err)
		}
	}
}
