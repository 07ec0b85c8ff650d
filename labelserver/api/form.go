package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
)

// FormLimits bounds what ReadForm takes from a client.
type FormLimits struct {
	// Bytes is the largest body.
	Bytes int64
	// FieldBytes is the largest text field.
	FieldBytes int64
	// Parts is the largest number of parts.
	Parts int
}

// Form is a decoded form: text fields and uploaded files. All bodies a client may send end up as one, also none at all.
type Form struct {
	fields map[string]string
	files  []*File
	dir    string
}

// File is an uploaded file in a temporary place. It lives until the form is closed.
type File struct {
	// Field is the part's name: file, label or files.
	Field string
	// Name is the base name the client gave, "" if it gave none.
	Name string
	// Ext is the name's extension, DefaultExt without a name.
	Ext string
	// Path is where the bytes are.
	Path string
	// Size is the number of bytes.
	Size int64
	// SHA256 is the hash of the bytes, in hex.
	SHA256 string
}

// filePart reports whether a part is a file even if it comes without a file name.
func filePart(field string) bool { return slices.Contains([]string{"file", "files", "label"}, field) }

// ReadForm decodes a request's body: multipart/form-data, application/x-www-form-urlencoded or none. Files are streamed into a
// new folder under dir (the system's temporary folder for ""). A body of another type is left alone and counts as none. Errors
// are *Error: 413 beyond a limit, 400 for a malformed body.
func ReadForm(r *http.Request, dir string, lim FormLimits) (*Form, error) {
	f := &Form{fields: make(map[string]string)}
	contentType := r.Header.Get("Content-Type")
	if r.Body == nil || r.Body == http.NoBody || contentType == "" {
		return f, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, badForm(fmt.Errorf("content-type %q: %w", contentType, err))
	}
	body := http.MaxBytesReader(nil, r.Body, lim.Bytes)
	switch media {
	case "application/x-www-form-urlencoded":
		err = f.readURLEncoded(body, lim)
	case "multipart/form-data":
		if params["boundary"] == "" {
			return nil, badForm(errors.New("multipart/form-data without a boundary"))
		}
		err = f.readMultipart(multipart.NewReader(body, params["boundary"]), dir, lim)
	}
	if err != nil {
		_ = f.Close() // the first error is the one to tell
		return nil, badForm(err)
	}
	return f, nil
}

func badForm(err error) *Error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		e := Errorf(http.StatusRequestEntityTooLarge, "upload is larger than %d bytes, the most this server takes", tooLarge.Limit)
		e.Cause = err
		return e
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	e := Errorf(http.StatusBadRequest, "There was an error parsing the body: %v", err)
	e.Cause = err
	return e
}

func (f *Form) readURLEncoded(body io.Reader, lim FormLimits) error {
	text, err := readField(body, lim.FieldBytes)
	if err != nil {
		return err
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return err
	}
	for name, all := range values {
		f.fields[name] = all[0]
	}
	return nil
}

func readField(r io.Reader, limit int64) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return "", err
	}
	if int64(len(text)) > limit {
		return "", Errorf(http.StatusRequestEntityTooLarge, "text field is larger than %d bytes", limit)
	}
	return string(text), nil
}

func (f *Form) readMultipart(parts *multipart.Reader, dir string, lim FormLimits) error {
	for n := 0; ; n++ {
		part, err := parts.NextRawPart() // not NextPart: nothing is to be decoded on the way
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n >= lim.Parts {
			return Errorf(http.StatusRequestEntityTooLarge, "form has more than %d parts", lim.Parts)
		}
		if err := f.readPart(part, dir, lim); err != nil {
			return fmt.Errorf("part %q: %w", part.FormName(), err)
		}
	}
}

func (f *Form) readPart(part *multipart.Part, dir string, lim FormLimits) error {
	name := part.FormName()
	fileName := rawFileName(part)
	if name != "params" && name != "info" && (fileName != "" || filePart(name)) {
		return f.readFile(part, name, fileName, dir)
	}
	text, err := readField(part, lim.FieldBytes)
	if err != nil {
		return err
	}
	if _, seen := f.fields[name]; !seen {
		f.fields[name] = text
	}
	return nil
}

// rawFileName is the part's file name with both kinds of separators cut off; Part.FileName would keep a Windows path whole.
func rawFileName(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return BaseName(part.FileName())
	}
	return BaseName(params["filename"])
}

func (f *Form) readFile(r io.Reader, field, name, dir string) error {
	if f.dir == "" {
		made, err := os.MkdirTemp(dir, "scrawl-upload-")
		if err != nil {
			return Errorf(http.StatusInternalServerError, "cannot make a folder for the upload")
		}
		f.dir = made
	}
	path := filepath.Join(f.dir, fmt.Sprintf("%d", len(f.files)))
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("storing the upload: %w", err)
	}
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(out, hash), r)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	ext := DefaultExt
	if name != "" {
		ext = Ext(name)
	}
	f.files = append(f.files, &File{Field: field, Name: name, Ext: ext, Path: path, Size: size, SHA256: hex.EncodeToString(hash.Sum(nil))})
	return nil
}

// Field returns a text field and whether it came.
func (f *Form) Field(name string) (string, bool) {
	text, ok := f.fields[name]
	return text, ok
}

// File returns the first file of a field, nil if none came.
func (f *Form) File(field string) *File {
	for _, file := range f.files {
		if file.Field == field {
			return file
		}
	}
	return nil
}

// Files returns all files of a field in the order in which they came.
func (f *Form) Files(field string) []*File {
	var all []*File
	for _, file := range f.files {
		if file.Field == field {
			all = append(all, file)
		}
	}
	return all
}

// Object reads a text field as a JSON object. A field that is missing or empty is an empty object; the error is a 400 answer.
func (f *Form) Object(field string) (*Object, error) {
	text := f.fields[field]
	if text == "" {
		return &Object{}, nil
	}
	o, err := DecodeObject([]byte(text))
	if err != nil {
		e := Errorf(http.StatusBadRequest, "%s: %v", field, err)
		e.Cause = err
		return nil, e
	}
	return o, nil
}

// Close removes the uploaded files.
func (f *Form) Close() error {
	if f.dir == "" {
		return nil
	}
	return os.RemoveAll(f.dir)
}
