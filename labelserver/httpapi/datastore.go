package httpapi

import (
	"archive/zip"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/labstack/echo/v4"

	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Tags with a meaning of their own.
const (
	tagFinal    = "final"    // labels a user has submitted
	tagOriginal = "original" // a model's answers
)

func (s *Server) stats(ctx context.Context) (*api.Object, error) {
	stats, err := s.o.Store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	tags := &api.Object{}
	for _, t := range stats.Tags {
		tags.Set(t.Tag, t.Count)
	}
	return api.NewObject("total", stats.Total, "completed", stats.Completed, "label_tags", tags), nil
}

func (s *Server) getDatastore(c echo.Context) error {
	output, err := queryEnum(c, "output", "stats", "train", "stats", "all")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	var answer any
	switch output {
	case "all":
		answer, err = s.o.Store.Document(ctx)
	case "train":
		answer, err = s.trainingPairs(ctx)
	default:
		answer, err = s.stats(ctx)
	}
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, answer)
}

func (s *Server) trainingPairs(ctx context.Context) ([]*api.Object, error) {
	pairs, err := s.o.Store.Labelled(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]*api.Object, 0, len(pairs))
	for _, p := range pairs {
		list = append(list, api.NewObject("image", p.Image.Path, "label", p.Label.Path))
	}
	return list, nil
}

// storedImage is an image of the datastore as a request's image.
func (s *Server) storedImage(ctx context.Context, id string) (annotation.Image, error) {
	item, err := s.o.Store.Image(ctx, id)
	if err != nil {
		return annotation.Image{}, err
	}
	item.ID = id
	return annotation.StoredImage(item, s.decodeImage)
}

// putImage stores an uploaded image. What was learned from another image of the same id is forgotten.
func (s *Server) putImage(c echo.Context) error {
	form, err := s.readForm(c)
	if err != nil {
		return err
	}
	defer s.closeForm(c, form)
	file := form.File("file")
	if file == nil {
		return api.Missing(api.InBody, "file")
	}
	info, err := form.Object("params")
	if err != nil {
		return err
	}
	info.Set("user", s.userOf(c))
	id := c.QueryParam("image")
	if id == "" {
		id = api.Stem(file.Name)
	}
	ctx := c.Request().Context()
	if err := s.o.Store.AddImage(ctx, id, file.Ext, file.Path, info); err != nil {
		return err
	}
	if err := s.forget(ctx, id); err != nil {
		return err
	}
	return reply(c, http.StatusOK, api.NewObject("image", id))
}

func (s *Server) forget(ctx context.Context, id string) error {
	return s.o.Service.Forget(ctx, annotation.ImageKey{Source: annotation.Stored, ID: id})
}

func (s *Server) deleteImage(c echo.Context) error {
	id, err := required(c, "id")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	item, _ := s.o.Store.Image(ctx, id) // for its path alone; RemoveImage says what is wrong with an id
	if err := s.o.Store.RemoveImage(ctx, id); err != nil {
		return err
	}
	s.checksums.Forget(item.Path)
	if err := s.forget(ctx, id); err != nil {
		return err
	}
	return reply(c, http.StatusOK, &api.Object{})
}

// missing gives an error of something that is not there the incumbent's text.
func missing(err error, what string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return api.Errorf(http.StatusNotFound, "%s NOT Found or is a directory", what)
	}
	return err
}

func (s *Server) getImage(c echo.Context) error {
	id, err := required(c, "image")
	if err != nil {
		return err
	}
	item, err := s.o.Store.Image(c.Request().Context(), id)
	if err != nil {
		return missing(err, "Image")
	}
	return sendItem(c, item, "Image")
}

func sendItem(c echo.Context, item datastore.Item, what string) error {
	f, err := item.Open()
	if err != nil {
		return missing(err, what)
	}
	defer func() { _ = f.Close() }() // only read
	return missing(sendFile(c, f, filepath.Base(item.Path)), what)
}

func (s *Server) headImage(c echo.Context) error {
	id, err := required(c, "image")
	if err != nil {
		return err
	}
	item, err := s.o.Store.Image(c.Request().Context(), id)
	if err != nil {
		return missing(err, "Image")
	}
	if sum := c.QueryParam("check_sum"); sum != "" {
		same, err := checksumIs(item, sum)
		if err != nil {
			return missing(err, "Image")
		}
		if !same {
			return api.Errorf(http.StatusNotFound, "Image has another checksum")
		}
	}
	return reply(c, http.StatusOK, &api.Object{})
}

// checksumIs compares an item with "hex" (of SHA-256) or "ALGORITHM:hex".
func checksumIs(item datastore.Item, want string) (bool, error) {
	algorithm, sum, found := strings.Cut(want, ":")
	if !found {
		algorithm, sum = "SHA256", want
	}
	var h hash.Hash
	switch strings.ToUpper(algorithm) {
	case "SHA256":
		h = sha256.New()
	case "SHA512":
		h = sha512.New()
	case "MD5":
		h = md5.New() // clients name it; nothing is secured by it
	default:
		return false, api.Errorf(http.StatusBadRequest, "check_sum of kind %q, want SHA256, SHA512 or MD5", algorithm)
	}
	f, err := item.Open()
	if err != nil {
		return false, err
	}
	_, err = io.Copy(h, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	got := hex.EncodeToString(h.Sum(nil))
	return subtle.ConstantTimeCompare([]byte(got), []byte(strings.ToLower(sum))) == 1, nil
}

func (s *Server) getImageInfo(c echo.Context) error {
	id, err := required(c, "image")
	if err != nil {
		return err
	}
	item, err := s.o.Store.Image(c.Request().Context(), id)
	if errors.Is(err, fs.ErrNotExist) {
		return reply(c, http.StatusOK, &api.Object{})
	}
	if err != nil {
		return err
	}
	info := item.Info.Clone()
	info.Set("path", item.Path)
	return reply(c, http.StatusOK, info)
}

func (s *Server) putImageInfo(c echo.Context) error {
	id, err := required(c, "image")
	if err != nil {
		return err
	}
	info, err := s.readInfo(c, "info")
	if err != nil {
		return err
	}
	if err := s.o.Store.UpdateImageInfo(c.Request().Context(), id, info); err != nil {
		return err
	}
	return reply(c, http.StatusOK, nil)
}

// readInfo reads the members to merge into an info. The form may be missing altogether.
func (s *Server) readInfo(c echo.Context, field string) (*api.Object, error) {
	form, err := s.readForm(c)
	if err != nil {
		return nil, err
	}
	defer s.closeForm(c, form)
	info, err := form.Object(field)
	if err != nil {
		return nil, err
	}
	info.Set("user", s.userOf(c))
	return info, nil
}

func tagOf(c echo.Context) string {
	if tag := c.QueryParam("tag"); tag != "" {
		return tag
	}
	return tagFinal
}

func (s *Server) putLabel(c echo.Context) error {
	id, err := required(c, "image")
	if err != nil {
		return err
	}
	form, err := s.readForm(c)
	if err != nil {
		return err
	}
	defer s.closeForm(c, form)
	file := form.File("label")
	if file == nil {
		return api.Missing(api.InBody, "label")
	}
	info, err := form.Object("params")
	if err != nil {
		return err
	}
	ctx, tag := c.Request().Context(), tagOf(c)
	path, ext, done, err := s.convertLabel(ctx, id, file, info)
	if err != nil {
		return err
	}
	defer done()
	// A label that is stored here but not taken by the archive is the user's work all the same; its error comes after.
	undelivered := s.o.Store.SaveLabel(ctx, id, tag, ext, path, info)
	if undelivered != nil && !errors.Is(undelivered, datastore.ErrUndelivered) {
		return undelivered
	}
	if tag == tagFinal && s.o.Labelled != nil {
		s.o.Labelled()
	}
	if err := s.o.Service.Submitted(ctx, s.submission(c, id, tag, info)); err != nil || undelivered != nil {
		return errors.Join(undelivered, err)
	}
	answer := api.NewObject("image", id, "label", id)
	if err := s.addDelivery(ctx, answer, id, tag); err != nil {
		return err
	}
	return reply(c, http.StatusOK, answer)
}

// addDelivery adds to the answer for a final label what became of it in the archive, which Slicer shows to its user.
func (s *Server) addDelivery(ctx context.Context, answer *api.Object, id, tag string) error {
	if s.o.Archive == nil || tag != tagFinal {
		return nil
	}
	item, err := s.o.Store.Label(ctx, id, tag)
	if err != nil {
		return err
	}
	if archive, ok := item.Info.Object("archive"); ok {
		answer.Set("archive", archive)
	}
	return nil
}

func (s *Server) submission(c echo.Context, id, tag string, info *api.Object) annotation.Submission {
	said, _ := info.Text("client_id")
	return annotation.Submission{
		Image: annotation.ImageKey{Source: annotation.Stored, ID: id}, Tag: tag, ClientID: s.clientID(c, said), Info: info,
		Open: func(ctx context.Context) (*volume.LabelMap, error) { return s.storedLabel(ctx, id, tag) },
	}
}

func (s *Server) storedLabel(ctx context.Context, id, tag string) (*volume.LabelMap, error) {
	item, err := s.o.Store.Label(ctx, id, tag)
	if err != nil {
		return nil, err
	}
	if item.Ext == ".bin" {
		image, err := s.storedImage(ctx, id)
		if err != nil {
			return nil, err
		}
		v, err := image.Open(ctx)
		if err != nil {
			return nil, err
		}
		return decodeBinary(item.Path, v.Geometry)
	}
	f, err := item.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return s.decodeLabels(ctx, "label"+item.Ext, f)
}

// saveResult stores an inference's answer as a label of its image. The info is what Slicer looks for when it loads the image.
func (s *Server) saveResult(ctx context.Context, call *inferCall, params *api.Object, file []byte) error {
	f, err := os.CreateTemp(s.o.UploadDir, "scrawl-result-")
	if err != nil {
		return fmt.Errorf("storing the answer as a label: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // the store has its own copy
	_, err = f.Write(file)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("storing the answer as a label: %w", err)
	}
	info := api.NewObject("model", call.req.Model, "params", params)
	return s.o.Store.SaveLabel(ctx, call.req.Image.Key.ID, call.saveTag, call.ext, f.Name(), info)
}

func (s *Server) deleteLabel(c echo.Context) error {
	id, err := required(c, "id")
	if err != nil {
		return err
	}
	tag, err := required(c, "tag")
	if err != nil {
		return err
	}
	if err := s.o.Store.RemoveLabel(c.Request().Context(), id, tag); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return reply(c, http.StatusOK, &api.Object{})
}

// headLabel takes the id as image, getLabel as label and deleteLabel as id: so do the clients.
func (s *Server) headLabel(c echo.Context) error {
	id, err := required(c, "image")
	if err != nil {
		return err
	}
	if _, err := s.o.Store.Label(c.Request().Context(), id, tagOf(c)); err != nil {
		return missing(err, "Label")
	}
	return reply(c, http.StatusOK, &api.Object{})
}

func (s *Server) getLabel(c echo.Context) error {
	id, err := required(c, "label")
	if err != nil {
		return err
	}
	output, err := queryEnum(c, "output", outputFile, outputFile, outputDICOMSeg, outputRTStruct)
	if err != nil {
		return err
	}
	if output != outputFile {
		return s.sendLabelAs(c, id, tagOf(c), output)
	}
	item, err := s.o.Store.Label(c.Request().Context(), id, tagOf(c))
	if err != nil {
		return missing(err, "Label")
	}
	return sendItem(c, item, "Label")
}

func (s *Server) getLabelInfo(c echo.Context) error {
	id, err := required(c, "label")
	if err != nil {
		return err
	}
	item, err := s.o.Store.Label(c.Request().Context(), id, tagOf(c))
	if errors.Is(err, fs.ErrNotExist) {
		return reply(c, http.StatusOK, &api.Object{})
	}
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, item.Info)
}

// putLabelInfo merges the members that come in a field, whose name depends on the route.
func (s *Server) putLabelInfo(field string) echo.HandlerFunc {
	return func(c echo.Context) error {
		id, err := required(c, "label")
		if err != nil {
			return err
		}
		info, err := s.readInfo(c, field)
		if err != nil {
			return err
		}
		if err := s.o.Store.UpdateLabelInfo(c.Request().Context(), id, tagOf(c), info); err != nil {
			return err
		}
		return reply(c, http.StatusOK, nil)
	}
}

// getDataset sends the labelled images and their labels as one archive. It is built in a file first, so that it has a length.
func (s *Server) getDataset(c echo.Context) error {
	limit, err := queryInt(c, "limit_cases", 0)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	pairs, err := s.o.Store.Labelled(ctx)
	if err != nil {
		return err
	}
	if len(pairs) == 0 {
		return api.Errorf(http.StatusNotFound, "no image has a final label yet")
	}
	if limit > 0 && limit < len(pairs) {
		pairs = pairs[:limit]
	}
	f, err := os.CreateTemp(s.o.UploadDir, "scrawl-dataset-")
	if err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	if err := s.writeDataset(ctx, f, pairs); err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	return sendContent(c, f, "dataset.zip", `"`+annotation.FileVersion(info)+`"`, info.ModTime())
}

func (s *Server) writeDataset(ctx context.Context, w io.Writer, pairs []datastore.Pair) error {
	z := zip.NewWriter(w)
	for _, p := range pairs {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := addToArchive(z, "image/"+filepath.Base(p.Image.Path), p.Image)
		if err == nil {
			err = addToArchive(z, "label/"+filepath.Base(p.Label.Path), p.Label)
		}
		if err != nil {
			return err
		}
	}
	document, err := s.o.Store.Document(ctx)
	if err != nil {
		return err
	}
	text, err := api.Encode(document)
	if err != nil {
		return err
	}
	metadata, err := z.Create("metadata.json")
	if err != nil {
		return err
	}
	if _, err := metadata.Write(text); err != nil {
		return err
	}
	return z.Close()
}

// addToArchive stores a file as it is: most are compressed already.
func addToArchive(z *zip.Writer, name string, item datastore.Item) error {
	f, err := item.Open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	out, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
	if err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return err
}
