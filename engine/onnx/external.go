package onnx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"scrawl/engine/onnx/onnxpb"
)

// Inline returns the file of a model with the tensors in it that it keeps in other files, as PyTorch's newer exporter leaves them beside it
// (model.onnx.data). files is the folder that the model lies in; nothing outside it is read. A model that keeps all in itself is returned as it is.
// No more than limit bytes are made of it. See "External Data" at https://onnx.ai/onnx/repo-docs/ExternalData.html.
func Inline(model []byte, files fs.FS, limit int64) ([]byte, error) {
	if !bytes.Contains(model, []byte("location")) { // the key under which a tensor names its file
		return model, nil
	}
	pb := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(model, pb); err != nil {
		return model, nil // Parse tells what is wrong with it
	}
	in := &inliner{files: files, left: limit - int64(len(model))}
	err := in.graph(pb.GetGraph())
	for _, f := range pb.GetFunctions() {
		err = errors.Join(err, in.nodes(f.GetNode()))
	}
	if err != nil {
		return nil, fmt.Errorf("inline external data: %w", err)
	}
	if !in.found {
		return model, nil
	}
	return proto.Marshal(pb)
}

// inliner carries what all tensors of a model share.
type inliner struct {
	files fs.FS
	left  int64 // bytes that may still be read
	found bool
}

func (in *inliner) graph(g *onnxpb.GraphProto) error {
	for _, t := range g.GetInitializer() {
		if err := in.tensor(t); err != nil {
			return err
		}
	}
	return in.nodes(g.GetNode())
}

func (in *inliner) nodes(nodes []*onnxpb.NodeProto) error {
	for _, n := range nodes {
		for _, a := range n.GetAttribute() {
			for _, t := range append(a.GetTensors(), a.GetT()) {
				if err := in.tensor(t); err != nil {
					return err
				}
			}
			for _, g := range append(a.GetGraphs(), a.GetG()) {
				if err := in.graph(g); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (in *inliner) tensor(t *onnxpb.TensorProto) error {
	if t.GetDataLocation() != onnxpb.TensorProto_EXTERNAL {
		return nil
	}
	in.found = true
	var file string
	var offset, length int64 = 0, -1
	for _, e := range t.GetExternalData() {
		var err error
		switch e.GetKey() {
		case "location":
			file = path.Clean(strings.ReplaceAll(e.GetValue(), `\`, "/"))
		case "offset":
			offset, err = strconv.ParseInt(e.GetValue(), 10, 64)
		case "length":
			length, err = strconv.ParseInt(e.GetValue(), 10, 64)
		}
		if err != nil || offset < 0 {
			return fmt.Errorf("tensor %q: %s %q is not a number of bytes", t.GetName(), e.GetKey(), e.GetValue())
		}
	}
	data, err := in.read(file, offset, length)
	if err != nil {
		return fmt.Errorf("tensor %q keeps its data in another file, %q: %w; put it beside the model, or save the model as one file (torch.onnx.export with external_data=False, onnx.save with save_as_external_data=False)", t.GetName(), file, err)
	}
	t.RawData, t.ExternalData, t.DataLocation = data, nil, nil
	return nil
}

// read reads a part of a file; a negative length means all from offset on.
func (in *inliner) read(file string, offset, length int64) ([]byte, error) {
	if !fs.ValidPath(file) || file == "." {
		return nil, errors.New("the name of a file in the model's own folder is wanted")
	}
	f, err := in.files.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, errors.New("the file cannot be read from the middle")
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if length < 0 {
		length = info.Size() - offset
	}
	switch {
	case length < 0 || offset > info.Size()-length:
		return nil, fmt.Errorf("it has %d bytes, and %d from %d on are wanted", info.Size(), length, offset)
	case length > in.left:
		return nil, errors.New("the model is too large with it")
	}
	in.left -= length
	data := make([]byte, length)
	_, err = io.ReadFull(io.NewSectionReader(at, offset, length), data)
	return data, err
}
