package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"

	"github.com/labstack/echo/v4"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicomseg"
	"scrawl/adapters/format"
	"scrawl/adapters/rtstruct"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/labelinfo"
	"scrawl/labelserver/session"
)

// openSeries opens the DICOM series that an image is made of, nil for an image of another format.
func (s *Server) openSeries(ctx context.Context, key annotation.ImageKey) (*dicom.Series, error) {
	switch key.Source {
	case annotation.Stored:
		item, err := s.o.Store.Image(ctx, key.ID)
		if err != nil || item.Series == nil {
			return nil, err
		}
		folder, names, err := item.Series(ctx)
		if err != nil {
			return nil, err
		}
		return dicom.OpenSeries(ctx, folder, names, dicom.Limits{})
	case annotation.Session:
		folder, err := s.o.Sessions.Folder(key.ID)
		if errors.Is(err, session.ErrOneFile) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return dicom.OpenFolder(ctx, folder, dicom.Limits{})
	}
	return nil, nil
}

// isSeries tells whether an image is a DICOM series, without opening it, and of what modality (DICOM PS3.3, C.7.3.1.1.1), "" when that is
// not known.
func (s *Server) isSeries(ctx context.Context, key annotation.ImageKey) (modality string, ok bool) {
	switch key.Source {
	case annotation.Stored:
		item, err := s.o.Store.Image(ctx, key.ID)
		if err != nil || item.Series == nil {
			return "", false
		}
		if modality, _ = item.Info.Text("Modality"); modality == "UNK" {
			modality = ""
		}
		return modality, true
	case annotation.Session:
		folder, err := s.o.Sessions.Folder(key.ID)
		if err != nil {
			return "", false
		}
		found, err := dicom.Scan(ctx, folder, dicom.Limits{})
		if err != nil {
			return "", true // the image itself says what is wrong with it
		}
		for _, one := range found.Series {
			if one.IsImage() {
				return one.Modality, true
			}
		}
		return "", true
	}
	return "", false
}

// checkDICOMSeg tells, before anything is computed, whether a request can be answered with a DICOM segmentation. What it says otherwise is
// the incumbent's.
func (s *Server) checkDICOMSeg(ctx context.Context, call *inferCall) error {
	if !call.req.Params.Has("label_info") {
		return api.Errorf(http.StatusNotFound, "Parameters for DICOM SEG inference cannot be empty!")
	}
	series, err := s.openSeries(ctx, call.req.Image.Key)
	if err != nil {
		return err
	}
	if series == nil {
		return api.Errorf(http.StatusInternalServerError, "DICOM SEG format is not supported in a non-DICOM datastore")
	}
	call.series = series
	return nil
}

// encodeDICOMSeg writes a label map on the grid of a series as a DICOM segmentation.
func encodeDICOMSeg(series *dicom.Series, m *volume.LabelMap, segments []dicomseg.Segment, description string) ([]byte, error) {
	grid, err := series.Grid()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = dicomseg.Encode(&b, m, segments, grid, dicomseg.Options{SeriesDescription: description})
	return b.Bytes(), err
}

// encodeRTStruct writes a label map on the grid of a series as a structure set.
func encodeRTStruct(series *dicom.Series, m *volume.LabelMap, segments []dicomseg.Segment, description string) ([]byte, error) {
	grid, err := series.Grid()
	if err != nil {
		return nil, err
	}
	var structures []rtstruct.Structure
	for _, s := range segments {
		structures = append(structures, rtstruct.Structure{Label: s.Label, Name: s.Name, Color: s.Color, Algorithm: s.AlgorithmType})
	}
	var b bytes.Buffer
	err = rtstruct.Encode(&b, m, structures, grid, rtstruct.Options{SeriesDescription: description})
	return b.Bytes(), err
}

// sendDICOM answers with a DICOM file.
func sendDICOM(c echo.Context, file []byte) error {
	c.Response().Header().Set("Content-Disposition", api.ContentDisposition(api.RandomFileName(".dcm")))
	return replyBytes(c, http.StatusOK, "application/dicom", file)
}

// sendDICOMSeg answers an inference with a DICOM segmentation.
func (s *Server) sendDICOMSeg(c echo.Context, call *inferCall, answer *annotation.Reply) error {
	if answer.Label == nil {
		return api.Errorf(http.StatusInternalServerError, "model %s gives no image, ask for output=json", call.req.Model)
	}
	segments := dicomSegments(answer.Label, answer.LabelNames, call.req.Params, call.req.LabelName)
	for n := range segments {
		segments[n].AlgorithmName = call.req.Model
	}
	file, err := encodeDICOMSeg(call.series, answer.Label, segments, modelName(call.req.Params, call.req.Model))
	if err != nil {
		return err
	}
	return sendDICOM(c, file)
}

// modelName is what the incumbent calls the series: the first label's model_name.
func modelName(params *api.Object, model string) string {
	v, _ := params.Get("label_info")
	list, _ := v.([]any)
	for _, item := range list {
		entry, _ := item.(*api.Object)
		if name, ok := entry.Text("model_name"); ok && name != "" {
			return name
		}
	}
	return model
}

// dicomSegments describes the labels in a map: by the names that came with it, and what label_info says of a segment of that name, or of
// that number if nobody has named it. A map without a voxel has the segment that was asked for.
func dicomSegments(m *volume.LabelMap, names []annotation.Segment, params *api.Object, asked string) []dicomseg.Segment {
	values := labelinfo.Values(m)
	entries := labelinfo.Read(params, values)
	var segments []dicomseg.Segment
	for _, value := range values {
		segment, _ := labelinfo.Find(entries, value)
		for _, n := range names {
			if n.ID == int(value) && n.Name != "" {
				segment = dicomseg.Segment{Name: n.Name}
				if i := slices.IndexFunc(entries, func(e labelinfo.Entry) bool { return e.Name == n.Name }); i >= 0 {
					segment = entries[i].Segment
				}
			}
		}
		if segment.Label = value; segment.Name == "" {
			segment.Name = "Segment " + strconv.Itoa(int(value))
		}
		segments = append(segments, segment)
	}
	if len(segments) == 0 {
		if asked == "" {
			asked = "Segment 1"
		}
		segments = []dicomseg.Segment{{Label: 1, Name: asked}}
	}
	return segments
}

// isDICOM looks at the first bytes of an upload, unless its name says what else it is: a raw mask may begin with any bytes.
func isDICOM(file *api.File) (bool, error) {
	if file.Ext == ".bin" || format.Readable(file.Ext) {
		return false, nil
	}
	f, err := os.Open(file.Path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return dicom.IsFile(head[:n]), nil
}

// dicomLabel is an uploaded DICOM segmentation or structure set on the grid of its image.
type dicomLabel struct {
	*volume.LabelMap
	segments    []dicomseg.Segment
	overlapping int // voxels that several segments claim
	outside     int // voxels or contours that lie on no slice of the image
}

// decodeDICOMLabels reads an uploaded DICOM segmentation or structure set onto the grid of its image.
func (s *Server) decodeDICOMLabels(ctx context.Context, path string, image annotation.Image) (*dicomLabel, error) {
	grid, err := s.gridOf(ctx, image)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	label, err := placeDICOM(f, grid)
	if err != nil {
		return nil, fmt.Errorf("reading the DICOM label: %w: %w", annotation.Invalid, err)
	}
	return label, nil
}

// gridOf is the grid of an image, with its slices where it is made of DICOM files.
func (s *Server) gridOf(ctx context.Context, image annotation.Image) (*dicom.Grid, error) {
	series, err := s.openSeries(ctx, image.Key)
	if err != nil {
		return nil, err
	}
	if series != nil {
		return series.Grid()
	}
	v, err := image.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &dicom.Grid{Geometry: v.Geometry}, nil
}

func placeDICOM(f *os.File, grid *dicom.Grid) (*dicomLabel, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head, err := dicom.Read(f, info.Size(), dicom.Limits{})
	if err != nil {
		return nil, err
	}
	if head.Text(dicom.SOPClassUID) != dicom.RTStructureSetStorage {
		seg, err := dicomseg.Read(f, info.Size(), dicom.Limits{})
		if err != nil {
			return nil, err
		}
		placed, err := seg.On(grid)
		if err != nil {
			return nil, err
		}
		return &dicomLabel{placed.LabelMap, placed.Segments, placed.Overlapping, placed.Outside}, nil
	}
	set, err := rtstruct.Read(f, info.Size(), dicom.Limits{})
	if err != nil {
		return nil, err
	}
	placed, err := set.On(grid)
	if err != nil {
		return nil, err
	}
	label := &dicomLabel{placed.LabelMap, nil, placed.Overlapping, placed.Outside + placed.Skipped}
	for _, structure := range placed.Structures {
		label.segments = append(label.segments, dicomseg.Segment{Label: structure.Label, Name: structure.Name, Color: structure.Color})
	}
	return label, nil
}

// convertLabel makes NIfTI on the image's grid of an uploaded DICOM segmentation or structure set, in a temporary file, so that every client reads the
// label; what the segments are called goes into the info. Uploads of other formats stay as they are.
func (s *Server) convertLabel(ctx context.Context, id string, file *api.File, info *api.Object) (path, ext string, done func(), err error) {
	done = func() {}
	is, err := isDICOM(file)
	if err != nil || !is {
		return file.Path, file.Ext, done, err
	}
	image, err := s.storedImage(ctx, id)
	if err != nil {
		return "", "", done, err
	}
	placed, err := s.decodeDICOMLabels(ctx, file.Path, image)
	if err != nil {
		return "", "", done, err
	}
	if !info.Has("label_info") {
		info.Set("label_info", labelInfo(placed.segments))
	}
	// What a label map has no place for is told.
	if placed.overlapping > 0 {
		info.Set("overlapping_voxels", placed.overlapping)
	}
	if placed.outside > 0 {
		info.Set("left_out", placed.outside)
	}
	const converted = ".nii.gz"
	text, err := s.encodeLabels(converted, placed.LabelMap, smallestType(placed.LabelMap), true)
	if err != nil {
		return "", "", done, err
	}
	f, err := os.CreateTemp(s.o.UploadDir, "scrawl-label-")
	if err != nil {
		return "", "", done, err
	}
	done = func() { _ = os.Remove(f.Name()) } // the store has its own copy
	_, err = f.Write(text)
	return f.Name(), converted, done, errors.Join(err, f.Close())
}

// labelInfo names segments as clients do.
func labelInfo(segments []dicomseg.Segment) []any {
	list := []any{}
	for _, segment := range segments {
		entry := api.NewObject("name", segment.Name, "idx", int(segment.Label))
		if c := segment.Color; c != nil {
			entry.Set("color", []any{math.Round(c[0] * 255), math.Round(c[1] * 255), math.Round(c[2] * 255)})
		}
		list = append(list, entry)
	}
	return list
}

// sendLabelAs answers with a label of an image of DICOM files as a DICOM segmentation or structure set.
func (s *Server) sendLabelAs(c echo.Context, id, tag, output string) error {
	ctx := c.Request().Context()
	item, err := s.o.Store.Label(ctx, id, tag)
	if err != nil {
		return missing(err, "Label")
	}
	series, err := s.openSeries(ctx, annotation.ImageKey{Source: annotation.Stored, ID: id})
	if err != nil {
		return err
	}
	if series == nil {
		return api.Errorf(http.StatusBadRequest, "image %q is not made of DICOM files, so its labels cannot be given as DICOM", id)
	}
	m, err := s.storedLabel(ctx, id, tag)
	if err != nil {
		return err
	}
	segments := dicomSegments(m, nil, item.Info, "")
	encode := encodeDICOMSeg
	if output == outputRTStruct {
		encode = encodeRTStruct
	}
	file, err := encode(series, m, segments, modelName(item.Info, "Labels"))
	if err != nil {
		return err
	}
	return sendDICOM(c, file)
}

// sessionFolder reads the image that a session of several files is.
func (s *Server) sessionFolder(ctx context.Context, folder fs.FS) (*volume.Volume, error) {
	image, err := dicom.ReadFolder(ctx, folder, dicom.Limits{})
	if err != nil {
		return nil, fmt.Errorf("reading the session's image: %w: %w", annotation.Invalid, err)
	}
	return image.Volume, nil
}
