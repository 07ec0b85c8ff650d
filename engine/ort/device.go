package ort

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	binding "github.com/yalue/onnxruntime_go"
)

// DeviceKind is a kind of processor.
type DeviceKind int

// The kinds of device. Auto is a wish, never a device in use.
const (
	CPU DeviceKind = iota
	CUDA
	Auto
)

// Device is a processor to run on.
type Device struct {
	Kind  DeviceKind
	Index int // of the CUDA device
}

// ParseDevice reads "cpu" (or ""), "cuda", "cuda:1", "auto".
func ParseDevice(s string) (Device, error) {
	kind, index, numbered := strings.Cut(strings.ToLower(strings.TrimSpace(s)), ":")
	d := Device{}
	switch kind {
	case "", "cpu":
	case "cuda":
		d.Kind = CUDA
	case "auto":
		d.Kind = Auto
	default:
		return d, fmt.Errorf("device %q is unknown; it must be cpu, cuda, cuda:N or auto", s)
	}
	if !numbered {
		return d, nil
	}
	n, err := strconv.ParseUint(index, 10, 8)
	if err != nil || d.Kind != CUDA {
		return d, fmt.Errorf("device %q is unknown; it must be cpu, cuda, cuda:N or auto", s)
	}
	d.Index = int(n)
	return d, nil
}

func (d Device) String() string {
	switch d.Kind {
	case CUDA:
		return fmt.Sprintf("cuda:%d", d.Index)
	case Auto:
		return "auto"
	}
	return "cpu"
}

func (d Device) provider() string {
	if d.Kind == CUDA {
		return "CUDA"
	}
	return "CPU"
}

// CUDAError says that a CUDA device cannot be used, and what to do about it.
type CUDAError struct {
	Device Device
	Err    error // ONNX Runtime's own words
}

// sourcePosition is what ONNX Runtime's messages begin with: a place in its source, a code and the code's name.
var sourcePosition = regexp.MustCompile(`^.*\[ONNXRuntimeError\] : \d+ : \w+ : `)

func (e *CUDAError) Error() string {
	cause := strings.TrimRight(sourcePosition.ReplaceAllString(e.Err.Error(), ""), ".")
	return fmt.Sprintf("%s cannot be used: %s. It needs a GPU build of onnx runtime (`%s --gpu`), an NVIDIA driver, and the CUDA and cuDNN libraries that the build was made for (CUDA 12 up to version 1.26, CUDA 13 from 1.27) in LD_LIBRARY_PATH before the process starts; or run with device cpu", e.Device, cause, InstallCommand)
}

func (e *CUDAError) Unwrap() error { return e.Err }

// appendCUDA puts the CUDA provider before the CPU. Every step can be the one that fails on a machine without CUDA, and
// going on after an error would run on the CPU without a word.
func appendCUDA(opts *binding.SessionOptions, d Device, more map[string]string) error {
	cuda, err := binding.NewCUDAProviderOptions()
	if err != nil {
		return &CUDAError{Device: d, Err: err}
	}
	defer func() { _ = cuda.Destroy() }()
	settings := map[string]string{
		"device_id": strconv.Itoa(d.Index),
		// The default, EXHAUSTIVE, tries every algorithm again for each new image size.
		"cudnn_conv_algo_search": "HEURISTIC",
		// TensorFloat-32 keeps 11 significant bits of the factors; it is on by default there, and here a choice.
		"use_tf32": "0",
	}
	for k, v := range more {
		settings[k] = v
	}
	if err := cuda.Update(settings); err != nil {
		return &CUDAError{Device: d, Err: err}
	}
	if err := opts.AppendExecutionProviderCUDA(cuda); err != nil {
		return &CUDAError{Device: d, Err: err}
	}
	return nil
}

// DeviceStatus tells whether a device can be used.
type DeviceStatus struct {
	Device Device
	Err    error // nil when it can
}

// Devices tries the CPU and the first CUDA device and tells which can be used.
func (l *Library) Devices() []DeviceStatus {
	cuda := Device{Kind: CUDA}
	return []DeviceStatus{{Device: Device{Kind: CPU}}, {Device: cuda, Err: l.probe(cuda)}}
}

// Resolve returns the device that a session for device name (as in Options.Device) would run on: for "auto", CUDA where it works, else the
// CPU.
func (l *Library) Resolve(name string) (Device, error) {
	d, err := ParseDevice(name)
	if err != nil || d.Kind != Auto {
		return d, err
	}
	if cuda := (Device{Kind: CUDA, Index: d.Index}); l.probe(cuda) == nil {
		return cuda, nil
	}
	return Device{Kind: CPU}, nil
}

func (l *Library) probe(d Device) error {
	if err := l.adopt(); err != nil {
		return err
	}
	defer l.release()
	opts, err := binding.NewSessionOptions()
	if err != nil {
		return err
	}
	defer func() { _ = opts.Destroy() }()
	return appendCUDA(opts, d, nil)
}
