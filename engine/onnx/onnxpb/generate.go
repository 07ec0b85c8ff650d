// Package onnxpb holds ONNX's protobuf messages (onnx-ml.proto, IR versions up to 14), generated and not edited. Only
// package onnx uses it: protobuf's registry knows one package "onnx" in a process, so no other module may bring its own.
package onnxpb

//go:generate protoc --go_out=. --go_opt=Monnx.proto=scrawl/engine/onnx/onnxpb --go_opt=paths=source_relative onnx.proto
