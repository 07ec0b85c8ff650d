package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/adapters/dicom"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/auth"
	"scrawl/labelserver/obs"
	"scrawl/labelserver/session"
)

// Forms in which a client may want the answer of an inference.
const (
	outputImage    = "image"
	outputJSON     = "json"
	outputAll      = "all"
	outputDICOMSeg = "dicom_seg"
	// Of a label alone.
	outputFile     = "file" // as it is stored
	outputRTStruct = "rtstruct"
)

// postInfer answers POST /infer/{model}.
func (s *Server) postInfer(c echo.Context) error {
	model, err := pathParam(c, "model")
	if err != nil {
		return err
	}
	output, err := queryEnum(c, "output", outputAll, outputImage, outputJSON, outputAll, outputDICOMSeg)
	if err != nil {
		return err
	}
	form, err := s.readForm(c)
	if err != nil {
		return err
	}
	defer s.closeForm(c, form)
	params, err := form.Object("params")
	if err != nil {
		return err
	}
	call, err := s.readInfer(c, model, params, form)
	if err != nil {
		return err
	}
	if output == outputDICOMSeg {
		if err := s.checkDICOMSeg(c.Request().Context(), call); err != nil {
			return err
		}
	}
	answer, err := s.infer(c, call)
	if err != nil {
		return err
	}
	return s.sendInfer(c, call, answer, output)
}

// infer decodes the uploaded mask of a call and asks the service, within the time limit.
func (s *Server) infer(c echo.Context, call *inferCall) (*annotation.Reply, error) {
	ctx, cancel := context.WithTimeout(c.Request().Context(), s.inferTimeout(call.req.Params))
	defer cancel()
	if err := s.decodeUpload(ctx, call); err != nil {
		return nil, err
	}
	report, end := s.stages.follow(call.req.ID)
	defer end()
	call.req.Progress = report
	answer, err := s.o.Service.Infer(ctx, call.req)
	if err != nil {
		return nil, timeoutError(ctx, err)
	}
	return answer, nil
}

// timeoutError says what a deadline means; other errors stay.
func timeoutError(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("inference was cut off at its time limit: %w", errors.Join(context.DeadlineExceeded, err))
	}
	return err
}

// inferTimeout is the configured limit, or less where the client asks for less.
func (s *Server) inferTimeout(params *api.Object) time.Duration {
	limit := s.o.Config.Engine.InferTimeout
	if asked, ok := params.Number("timeout"); ok && asked > 0 && asked < limit.Seconds() {
		return time.Duration(asked * float64(time.Second))
	}
	return limit
}

// inferCall is a decoded request with what the answer's form depends on.
type inferCall struct {
	req   *annotation.Request
	model annotation.Model
	label *api.File // the uploaded mask, nil if none

	ext      string // the result's extension, with its dot
	dtype    string // numpy's name, "" for the smallest that holds the answer
	compress bool
	saveTag  string // the tag under which to store the result, "" not to

	series *dicom.Series // what the image is made of, for answers as a DICOM segmentation
}

// readInfer reads everything of a request but the voxels. Members of params win over the address, and a session's image over
// both, as with the incumbent.
func (s *Server) readInfer(c echo.Context, model string, params *api.Object, form *api.Form) (*inferCall, error) {
	query := c.QueryParams()
	if query.Get("image") == "" && query.Get("session_id") == "" && form.File("file") == nil {
		return nil, api.Errorf(http.StatusInternalServerError, "Neither Image nor File not Session ID input is provided")
	}
	if name, ok := params.Text("model"); ok && name != "" {
		model = name
	}
	described, err := s.model(model)
	if err != nil {
		return nil, err
	}
	req := &annotation.Request{ID: obs.RequestID(c.Request().Context()), Model: model, Params: params, SessionID: query.Get("session_id")}
	if req.Image, err = s.inferImage(c.Request().Context(), req, query.Get("image"), form.File("file")); err != nil {
		return nil, err
	}
	if err := readInteraction(req, described); err != nil {
		return nil, err
	}
	req.ClientID = s.clientID(c, req.ClientID)
	call := &inferCall{req: req, model: described, label: form.File("label")}
	if err := s.readResultParams(call); err != nil {
		return nil, err
	}
	return call, s.maySave(c, call.saveTag)
}

// maySave refuses to store an answer where only an annotator may store a label. That of a model's answers is everybody's, as with the
// incumbent.
func (s *Server) maySave(c echo.Context, tag string) error {
	if s.o.Auth == nil || tag == "" || tag == tagOriginal {
		return nil
	}
	if missing := s.missingRole(s.identityOf(c), []auth.Role{auth.Annotator}); missing != "" {
		return api.Errorf(http.StatusForbidden, "Role \"%s\" is required to store an answer as label %q", missing, tag)
	}
	return nil
}

func (s *Server) model(name string) (annotation.Model, error) {
	models := s.o.Service.Models()
	var names []string
	for _, m := range models {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return annotation.Model{}, api.Errorf(http.StatusNotFound, "model %q not found, there are: %s", name, strings.Join(names, ", "))
}

// inferImage finds the image of a request: the session's, the one named in params, the uploaded file or the one in the address.
func (s *Server) inferImage(ctx context.Context, req *annotation.Request, id string, file *api.File) (annotation.Image, error) {
	if req.SessionID != "" && s.o.Sessions != nil {
		image, err := s.sessionImage(req.SessionID)
		if err == nil || !errors.Is(err, session.ErrNotFound) {
			return image, err
		}
	}
	req.SessionID = "" // an unknown session is ignored: the image then decides
	if named, ok := req.Params.Text("image"); ok && named != "" {
		return s.storedImage(ctx, named)
	}
	if file != nil {
		return s.uploadedImage(file), nil
	}
	return s.storedImage(ctx, id)
}

func (s *Server) uploadedImage(file *api.File) annotation.Image {
	return annotation.Image{
		Key:     annotation.ImageKey{Source: annotation.Uploaded, ID: file.SHA256},
		Ext:     file.Ext,
		Version: file.SHA256,
		Open: annotation.Once(func(ctx context.Context) (*volume.Volume, error) {
			return s.decodeImageFile(ctx, "upload"+file.Ext, file.Path)
		}),
	}
}

func (s *Server) sessionImage(id string) (annotation.Image, error) {
	info, err := s.o.Sessions.Get(id, true)
	if err != nil {
		return annotation.Image{}, err
	}
	f, _, err := s.o.Sessions.OpenImage(id)
	if err != nil {
		return annotation.Image{}, err
	}
	stat, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return annotation.Image{}, err
	}
	if stat.IsDir() { // of the slices of a series; a session's files do not change
		return annotation.Image{
			Key:     annotation.ImageKey{Source: annotation.Session, ID: id},
			Version: annotation.FileVersion(stat),
			Open: annotation.Once(func(ctx context.Context) (*volume.Volume, error) {
				folder, err := s.o.Sessions.Folder(id)
				if err != nil {
					return nil, err
				}
				return s.sessionFolder(ctx, folder)
			}),
		}, nil
	}
	name := api.BaseName(info.Image)
	return annotation.Image{
		Key:     annotation.ImageKey{Source: annotation.Session, ID: id},
		Ext:     api.Ext(name),
		Version: annotation.FileVersion(stat),
		Open: annotation.Once(func(ctx context.Context) (*volume.Volume, error) {
			f, _, err := s.o.Sessions.OpenImage(id)
			if err != nil {
				return nil, err
			}
			defer func() { _ = f.Close() }() // only read
			return s.decodeImage(ctx, name, f)
		}),
	}, nil
}

// readInteraction reads what the user drew from the parameters. An unknown parameter is not an error in this protocol; one that the
// model's type gives a meaning must have the form for it.
func readInteraction(req *annotation.Request, model annotation.Model) error {
	p := req.Params
	req.ClientID, _ = p.Text("client_id")
	req.LabelName, _ = p.Text("selected_label_name")
	if req.LabelName == "" {
		req.LabelName, _ = p.Text("label")
	}
	req.LabelInfo = readLabelInfo(p)
	strict := model.Type == "deepgrow" || model.Type == "deepedit"
	var err error
	for name, clicks := range map[string]*[]annotation.Click{"foreground": &req.Foreground, "background": &req.Background} {
		if *clicks, err = readClicks(p, name); err != nil && strict {
			return err
		}
	}
	if req.ROI, err = readROI(p); err != nil {
		return err
	}
	for _, label := range model.Labels {
		switch clicks, err := readClicks(p, label.Name); {
		case err == nil && clicks != nil:
			req.LabelClicks = append(req.LabelClicks, annotation.LabelClicks{Name: label.Name, Clicks: clicks})
		case err != nil && strict:
			return err
		}
	}
	readOwnLabel(req, model)
	return nil
}

// readOwnLabel reads the clicks on a segment that the user has made. Its name is the user's, so a parameter of that name need not be
// meant by it, and is left alone unless it has the form of clicks.
func readOwnLabel(req *annotation.Request, model annotation.Model) {
	known := slices.ContainsFunc(model.Labels, func(s annotation.Segment) bool { return s.Name == req.LabelName })
	if req.LabelName == "" || known || slices.Contains([]string{"foreground", "background", "roi"}, req.LabelName) {
		return
	}
	if clicks, err := readClicks(req.Params, req.LabelName); err == nil && len(clicks) > 0 {
		req.LabelClicks = append(req.LabelClicks, annotation.LabelClicks{Name: req.LabelName, Clicks: clicks})
	}
}

// readLabelInfo reads [{"name":…,"id":…},…]. OHIF sends whole segment objects, with other members beside. A number that no voxel can
// have is passed on as -1: the service knows which segments it needs.
func readLabelInfo(p *api.Object) []annotation.Segment {
	v, _ := p.Get("label_info")
	list, _ := v.([]any)
	var segments []annotation.Segment
	for _, item := range list {
		o, _ := item.(*api.Object)
		name, named := o.Text("name")
		if !named {
			continue
		}
		id, numbered := o.Number("id")
		if !numbered || id != math.Trunc(id) || id < 0 || id > math.MaxUint16 {
			id = -1
		}
		segments = append(segments, annotation.Segment{Name: name, ID: int(id)})
	}
	return segments
}

// readClicks reads [[i,j,k],…], nil if there is nothing under the name. Coordinates are whole numbers; OHIF's may come with a point.
func readClicks(p *api.Object, name string) ([]annotation.Click, error) {
	v, _ := p.Get(name)
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, api.Errorf(http.StatusBadRequest, "%s is no list, want points as [[i,j,k],…]", name)
	}
	clicks := make([]annotation.Click, 0, len(list))
	for i, item := range list {
		point, _ := item.([]any)
		numbers, ok := wholeNumbers(point)
		if !ok || len(numbers) != 3 {
			return nil, api.Errorf(http.StatusBadRequest, "point %d of %s is not three numbers, want points as [[i,j,k],…] in voxels", i+1, name)
		}
		clicks = append(clicks, annotation.Click(numbers))
	}
	return clicks, nil
}

// readROI reads [i0,i1,j0,j1,k0,k1]; an empty list, which Slicer sends where no box was drawn, is none.
func readROI(p *api.Object) (*annotation.Box, error) {
	v, _ := p.Get("roi")
	list, isList := v.([]any)
	if v == nil || isList && len(list) == 0 {
		return nil, nil
	}
	numbers, ok := wholeNumbers(list)
	if !ok || len(numbers) != 6 {
		return nil, api.Errorf(http.StatusBadRequest, "roi is not six numbers, want [i0,i1,j0,j1,k0,k1] in voxels")
	}
	box := annotation.NewBox([6]int(numbers))
	return &box, nil
}

// wholeNumbers rounds a list of numbers. Beyond ±2^31 nothing is a voxel.
func wholeNumbers(list []any) ([]int, bool) {
	numbers := make([]int, 0, len(list))
	for _, item := range list {
		n, ok := api.NewObject("n", item).Number("n")
		if !ok || math.Abs(n) > math.MaxInt32 {
			return nil, false
		}
		numbers = append(numbers, int(math.Round(n)))
	}
	return numbers, true
}

// readResultParams reads the form in which the client wants the label map.
func (s *Server) readResultParams(call *inferCall) error {
	p := call.req.Params
	call.ext = call.req.Image.Ext
	if asked, ok := p.Text("result_extension"); ok && asked != "" {
		ext, err := api.CheckResultExt(asked)
		if err != nil {
			return api.Errorf(http.StatusBadRequest, "%v", err)
		}
		if !s.o.Codec.Writable(ext) {
			return api.Errorf(http.StatusBadRequest, "result_extension %s cannot be written, want .nrrd, .nii.gz or .nii", ext)
		}
		call.ext = ext
	}
	call.ext = s.writableExt(call.ext)
	call.dtype, _ = p.Text("result_dtype")
	if call.dtype != "" && !slices.Contains(resultTypes, call.dtype) {
		return api.Errorf(http.StatusBadRequest, "result_dtype %q, want one of %s", call.dtype, strings.Join(resultTypes, ", "))
	}
	call.compress, _ = p.Bool("result_compress")
	if save, _ := p.Bool("save_label"); save && call.req.Image.Key.Source == annotation.Stored {
		call.saveTag = tagOriginal
		if tag, ok := p.Text("label_tag"); ok && tag != "" {
			call.saveTag = tag
		}
	}
	return nil
}

// writableExt is the longest end of an extension that can be written: .nii.gz for a.b.nii.gz. Images of formats that hold no
// label maps are answered with .nrrd, which every client reads.
func (s *Server) writableExt(ext string) string {
	for ; ext != ""; ext = api.Ext("x" + ext[1:]) {
		if s.o.Codec.Writable(ext) {
			return ext
		}
	}
	return ".nrrd"
}

// decodeUpload reads the uploaded mask, if there is one.
func (s *Server) decodeUpload(ctx context.Context, call *inferCall) error {
	if call.label == nil {
		return nil
	}
	if call.label.Ext == ".bin" {
		v, err := call.req.Image.Open(ctx)
		if err != nil {
			return err
		}
		call.req.Label, err = decodeBinary(call.label.Path, v.Geometry)
		return err
	}
	is, err := isDICOM(call.label)
	if err != nil {
		return err
	}
	if is {
		placed, err := s.decodeDICOMLabels(ctx, call.label.Path, call.req.Image)
		if err == nil {
			call.req.Label = placed.LabelMap
		}
		return err
	}
	f, err := os.Open(call.label.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	call.req.Label, err = s.decodeLabels(ctx, "label"+call.label.Ext, f)
	return err
}

// sendInfer writes the answer in the form asked for.
func (s *Server) sendInfer(c echo.Context, call *inferCall, answer *annotation.Reply, output string) error {
	params := answer.Result()
	var file []byte
	if answer.Label != nil && (output != outputJSON && output != outputDICOMSeg || call.saveTag != "") {
		var err error
		if file, err = s.encodeLabels(call.ext, answer.Label, call.typeFor(answer.Label), call.compress); err != nil {
			return err
		}
	}
	if call.saveTag != "" && file != nil {
		if err := s.saveResult(c.Request().Context(), call, params, file); err != nil {
			return err
		}
	}
	switch {
	case output == outputDICOMSeg:
		return s.sendDICOMSeg(c, call, answer)
	case output == outputImage && file == nil:
		return api.Errorf(http.StatusInternalServerError, "model %s gives no image, ask for output=json", call.req.Model)
	case output == outputImage:
		name := api.RandomFileName(call.ext)
		return sendContent(c, bytes.NewReader(file), name, `"`+name+`"`, time.Now())
	case output == outputJSON || file == nil:
		return reply(c, http.StatusOK, params)
	}
	return sendMultipart(c, params, api.RandomFileName(call.ext), file)
}

func sendMultipart(c echo.Context, params *api.Object, name string, file []byte) error {
	answer, err := api.NewInferAnswer(params, name, file)
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("Content-Type", answer.ContentType())
	h.Set("Content-Length", fmt.Sprint(answer.Len()))
	c.Response().WriteHeader(http.StatusOK)
	_, err = answer.WriteTo(c.Response())
	return err
}

// typeFor is the type asked for, or the smallest that holds the answer.
func (call *inferCall) typeFor(m *volume.LabelMap) string {
	if call.dtype != "" {
		return call.dtype
	}
	return smallestType(m)
}

// smallestType is the smallest unsigned type that holds every label.
func smallestType(m *volume.LabelMap) string {
	if len(m.Labels) > 0 && slices.Max(m.Labels) > math.MaxUint8 {
		return "uint16"
	}
	return "uint8"
}
