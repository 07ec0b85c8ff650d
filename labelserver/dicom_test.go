package labelserver

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicomseg"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
)

// sliceFiles are the files of a CT series of an image, with names that have no extension, in an order that says nothing.
func sliceFiles(t testing.TB, v *volume.Volume, series string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	pixels := v.Size[0] * v.Size[1]
	for k := range v.Size[2] {
		d := &dicom.Dataset{}
		for tag, text := range map[dicom.Tag]string{dicom.SOPClassUID: "1.2.840.10008.5.1.4.1.1.2", dicom.SOPInstanceUID: fmt.Sprintf("%s.%d", series, k+1),
			dicom.SeriesInstanceUID: series, dicom.StudyInstanceUID: "1.2.3", dicom.FrameOfReferenceUID: "1.2.4", dicom.Modality: "CT",
			dicom.PatientName: "Test^Patient", dicom.PatientID: "P1", dicom.StudyDate: "20260102", dicom.PhotometricInterpretation: "MONOCHROME2"} {
			d.Set(tag, text)
		}
		p := v.IndexToWorld([3]float64{0, 0, float64(k)})
		d.SetFloats(dicom.ImagePositionPatient, p[:]...)
		d.SetFloats(dicom.ImageOrientationPatient, 1, 0, 0, 0, 1, 0)
		d.SetFloats(dicom.PixelSpacing, v.Spacing[1], v.Spacing[0])
		d.SetInts(dicom.InstanceNumber, 100-k)
		for tag, n := range map[dicom.Tag]int{dicom.Rows: v.Size[1], dicom.Columns: v.Size[0], dicom.SamplesPerPixel: 1, dicom.BitsAllocated: 16,
			dicom.BitsStored: 16, dicom.HighBit: 15, dicom.PixelRepresentation: 1} {
			d.SetInts(tag, n)
		}
		var raw []byte
		for _, x := range v.Voxels[k*pixels : (k+1)*pixels] {
			raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(x)))
		}
		d.SetBytes(dicom.PixelData, "OW", raw)
		var b bytes.Buffer
		if err := dicom.Write(&b, d); err != nil {
			t.Fatal(err)
		}
		files[fmt.Sprintf("IM%04d", (k*7)%v.Size[2])] = b.Bytes()
	}
	return files
}

// call sends a request and returns the header and body of the answer, which must be of status 200.
func call(t *testing.T, method, address string, fields map[string]string, files map[string][]byte) (http.Header, []byte) {
	t.Helper()
	res, err := http.DefaultClient.Do(formRequest(t, method, address, fields, files))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s: %.300s", method, address, res.Status, text)
	}
	return res.Header, text
}

func formRequest(t *testing.T, method, address string, fields map[string]string, files map[string][]byte) *http.Request {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, value := range fields {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		field, file, _ := bytes.Cut([]byte(name), []byte("/"))
		part, err := w.CreateFormFile(string(field), string(file))
		if err == nil {
			_, err = part.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	return req
}

// askFor sends a request that may be refused.
func askFor(t *testing.T, method, address string, fields map[string]string, files map[string][]byte) (status int, text string) {
	t.Helper()
	req := formRequest(t, method, address, fields, files)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// readSeg reads a DICOM segmentation onto a grid.
func readSeg(t *testing.T, b []byte, g volume.Geometry) *dicomseg.Placed {
	t.Helper()
	s, err := dicomseg.Read(bytes.NewReader(b), int64(len(b)), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.OnGeometry(g)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDICOMFolder holds that a folder of DICOM files is served as any other: its series is listed, downloaded, segmented, labelled
// with NIfTI and with DICOM segmentations, and answers come as DICOM segmentations too.
func TestDICOMFolder(t *testing.T) {
	studies := t.TempDir()
	image, organs := phantom.Abdomen([3]int{40, 32, 9}, [3]float64{8, 8, 15}, 1)
	for n, x := range image.Voxels {
		image.Voxels[n] = float32(int16(x)) // as CT is stored
	}
	const series = "1.2.826.77"
	files := sliceFiles(t, image, series)
	folder := filepath.Join(studies, "patient", "ct")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	encode(t, filepath.Join(studies, "copy.nii.gz"), func(w io.Writer) error {
		return format.Encode("x.nii.gz", w, image, format.Options{DType: "int16"})
	})
	address := serveFolder(t, writeApp(t, testYAML), studies)

	_, text := call(t, http.MethodGet, address+"/datastore/?output=stats", nil, nil)
	var stats struct{ Total, Completed int }
	if err := json.Unmarshal(text, &stats); err != nil || stats.Total != 2 {
		t.Fatalf("datastore %s, %v", text, err)
	}
	header, text := call(t, http.MethodGet, address+"/datastore/image?image="+series, nil, nil)
	v, err := format.Decode("x.nii.gz", bytes.NewReader(text), volume.Limits{})
	if err != nil || !slices.Equal(v.Voxels, image.Voxels) || image.Difference(v.Geometry) != "" {
		t.Fatalf("image %v: %v, %s", header, err, image.Difference(v.Geometry))
	}
	if got := header.Get("Content-Disposition"); !bytes.Contains([]byte(got), []byte(series+".nii.gz")) {
		t.Errorf("content disposition %q", got)
	}

	if header, _ = call(t, http.MethodGet, address+"/scrawl/volume?image="+series, nil, nil); header.Get("X-Dicom-Series") != "true" || header.Get("X-Dicom-Modality") != "CT" {
		t.Errorf("the page is not told of a CT series: %v", header)
	}
	if header, _ = call(t, http.MethodGet, address+"/scrawl/volume?image=copy", nil, nil); header.Get("X-Dicom-Series")+header.Get("X-Dicom-Modality") != "" {
		t.Errorf("the page is told of a series where there is none: %v", header)
	}

	// Scribbles in, a DICOM segmentation out.
	var label bytes.Buffer
	scribbles := layers(v.Geometry, line([3]int{10, 12, 4}, 0, 6), line([3]int{30, 25, 4}, 0, 6))
	if err := format.EncodeLabels("x.nii.gz", &label, scribbles, format.Options{}); err != nil {
		t.Fatal(err)
	}
	ask := address + "/infer/scribbles?image=" + series + "&output=dicom_seg"
	params := `{"label_info":` + labelInfo + `,"selected_label_name":"liver","client_id":"c"}`
	header, text = call(t, http.MethodPost, ask, map[string]string{"params": params}, map[string][]byte{"label/label.nii.gz": label.Bytes()})
	if header.Get("Content-Type") != "application/dicom" || !bytes.Contains([]byte(header.Get("Content-Disposition")), []byte(".dcm")) {
		t.Errorf("headers %v", header)
	}
	answer := readSeg(t, text, v.Geometry)
	if len(answer.Segments) != 1 || answer.Segments[0].Name != "liver" || answer.Segments[0].Type.Meaning != "Liver" || answer.Labels[v.Index(10, 12, 4)] != 1 {
		t.Errorf("segments %+v, the stroke has label %d", answer.Segments, answer.Labels[v.Index(10, 12, 4)])
	}

	// A DICOM segmentation as the label, which clients then get as NIfTI, and as a DICOM segmentation again.
	s, err := dicom.OpenFolder(t.Context(), os.DirFS(folder), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	grid, err := s.Grid()
	if err != nil {
		t.Fatal(err)
	}
	organs.Geometry = grid.Geometry
	var segments []dicomseg.Segment
	for n := range uint16(12) {
		segments = append(segments, dicomseg.Segment{Label: n + 1, Name: fmt.Sprint("organ ", n+1)})
	}
	var seg bytes.Buffer
	if err := dicomseg.Encode(&seg, organs, segments, grid, dicomseg.Options{}); err != nil {
		t.Fatal(err)
	}
	call(t, http.MethodPut, address+"/datastore/label?image="+series, nil, map[string][]byte{"label/seg.dcm": seg.Bytes()})
	_, text = call(t, http.MethodGet, address+"/datastore/label?label="+series, nil, nil)
	m, err := format.DecodeLabels("x.nii.gz", bytes.NewReader(text), volume.Limits{})
	if err != nil || !slices.Equal(m.Labels, organs.Labels) || m.Difference(v.Geometry) != "" {
		t.Errorf("label differs: %v", err)
	}
	_, text = call(t, http.MethodGet, address+"/datastore/label/info?label="+series, nil, nil)
	if !bytes.Contains(text, []byte(`"organ 3"`)) {
		t.Errorf("label info %s, want the segments' names", text)
	}
	_, text = call(t, http.MethodGet, address+"/datastore/label?output=dicom_seg&label="+series, nil, nil)
	back := readSeg(t, text, v.Geometry)
	names := map[uint16]string{}
	for _, s := range back.Segments {
		names[s.Label] = s.Name
	}
	for n, l := range organs.Labels {
		if l != 0 && names[back.Labels[n]] != fmt.Sprint("organ ", l) || l == 0 && back.Labels[n] != 0 {
			t.Fatalf("voxel %d is %q, want organ %d", n, names[back.Labels[n]], l)
		}
	}

	// An image of another format takes DICOM labels too, and says why it gives none.
	call(t, http.MethodPut, address+"/datastore/label?image=copy", nil, map[string][]byte{"label/seg.dcm": seg.Bytes()})
	_, text = call(t, http.MethodGet, address+"/datastore/label?label=copy", nil, nil)
	if m, err = format.DecodeLabels("x.nii.gz", bytes.NewReader(text), volume.Limits{}); err != nil || !slices.Equal(m.Labels, organs.Labels) {
		t.Errorf("label of a NIfTI image differs: %v", err)
	}
	if status, text := askFor(t, http.MethodGet, address+"/datastore/label?output=dicom_seg&label=copy", nil, nil); status != http.StatusBadRequest || !strings.Contains(text, "not made of DICOM files") {
		t.Errorf("status %d, %s", status, text)
	}

	// As a structure set, and that as a label of another tag.
	_, text = call(t, http.MethodGet, address+"/datastore/label?output=rtstruct&label="+series, nil, nil)
	call(t, http.MethodPut, address+"/datastore/label?tag=planning&image="+series, nil, map[string][]byte{"label/rs.dcm": text})
	_, text = call(t, http.MethodGet, address+"/datastore/label?tag=planning&label="+series, nil, nil)
	m, err = format.DecodeLabels("x.nii.gz", bytes.NewReader(text), volume.Limits{})
	if err != nil || !slices.Equal(m.Labels, back.Labels) {
		t.Errorf("label by way of a structure set differs: %v", err)
	}

	// The same series as an upload: a session of its files, and one of an archive.
	uploads := map[string][]byte{}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for name, b := range files {
		uploads["files/"+name] = b
		w, err := z.Create("series/" + name)
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	packed := map[string][]byte{"files/series.zip": archive.Bytes()}
	for _, session := range []struct {
		query  string
		files  map[string][]byte
		folder bool
	}{{"", uploads, true}, {"?uncompress=true", packed, true}, {"", packed, false}} {
		_, text = call(t, http.MethodPut, address+"/session/"+session.query, nil, session.files)
		var made struct {
			ID string `json:"session_id"`
		}
		if err := json.Unmarshal(text, &made); err != nil {
			t.Fatal(err)
		}
		header, text = call(t, http.MethodGet, address+"/session/"+made.ID+"?image=true", nil, nil)
		if !session.folder {
			if !bytes.Equal(text, archive.Bytes()) {
				t.Error("an uploaded archive does not come back as it was")
			}
		} else if back, err := format.Decode("x.nii.gz", bytes.NewReader(text), volume.Limits{}); err != nil || !slices.Equal(back.Voxels, image.Voxels) || image.Difference(back.Geometry) != "" ||
			!strings.Contains(header.Get("Content-Disposition"), made.ID+".nii.gz") {
			t.Errorf("a session's series does not come back as a volume: %v, headers %v", err, header)
		}
		query := url.Values{"session_id": {made.ID}, "output": {"image"}}
		if session.folder {
			query.Set("output", "dicom_seg")
		}
		_, text = call(t, http.MethodPost, address+"/infer/scribbles?"+query.Encode(), map[string]string{"params": params}, map[string][]byte{"label/label.nii.gz": label.Bytes()})
		if session.folder {
			readSeg(t, text, v.Geometry)
		} else if m, err := format.DecodeLabels("x.nrrd", bytes.NewReader(text), volume.Limits{}); err != nil || m.Difference(v.Geometry) != "" {
			t.Errorf("answer for an archive: %v", err)
		}
	}
}

// TestBrokenDICOM holds that DICOM files that lie or do not fit are refused with the reason, as images and as labels, and that a folder
// with such files serves the others.
func TestBrokenDICOM(t *testing.T) {
	studies := t.TempDir()
	image, _ := phantom.Abdomen([3]int{40, 32, 9}, [3]float64{8, 8, 15}, 1)
	good, mixed := sliceFiles(t, image, "1.2.826.78"), sliceFiles(t, image, "1.2.826.79")
	mixed["IM0000"] = bytes.Replace(mixed["IM0000"], []byte(`1\0\0\0\1\0`), []byte(`0\1\0\0\0\1`), 1)
	cut := good["IM0001"][:300]
	for folder, files := range map[string]map[string][]byte{"good": good, "mixed": {"a": mixed["IM0000"], "b": mixed["IM0001"]}, "broken": {"c.dcm": cut}} {
		if err := os.MkdirAll(filepath.Join(studies, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(studies, folder, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	address := serveFolder(t, writeApp(t, testYAML), studies)
	call(t, http.MethodGet, address+"/datastore/image?image=1.2.826.78", nil, nil)
	params := map[string]string{"params": `{"label_info":` + labelInfo + `,"selected_label_name":"liver"}`}
	bomb := bytes.Repeat([]byte{0}, 128)
	bomb = append(bomb, "DICM\x08\x00\x99\x11UT\x00\x00\x00\x00\x00\xf0"...)
	for name, test := range map[string]struct {
		method, path string
		files        map[string][]byte
		text         string
	}{
		"a series of several orientations": {http.MethodGet, "/datastore/image?image=1.2.826.79", nil, "orientations or sizes"},
		"its inference":                    {http.MethodPost, "/infer/scribbles?image=1.2.826.79&output=dicom_seg", nil, "orientations or sizes"},
		"an image cut short":               {http.MethodPost, "/infer/scribbles", map[string][]byte{"file/x.dcm": cut}, "8 bytes, 0 are left"},
		"an image of 4 GB in 144 bytes":    {http.MethodPost, "/infer/scribbles", map[string][]byte{"file/x.dcm": bomb}, "claims 4026531840 bytes"},
		"an archive of no image":           {http.MethodPost, "/infer/scribbles", map[string][]byte{"file/x.zip": []byte("PK\x03\x04 and nothing")}, "zip"},
		"a label that is an image":         {http.MethodPut, "/datastore/label?image=1.2.826.78", map[string][]byte{"label/x.dcm": good["IM0001"]}, "want a segmentation"},
		"a label cut short":                {http.MethodPut, "/datastore/label?image=1.2.826.78", map[string][]byte{"label/x.dcm": cut}, "8 bytes, 0 are left"},
	} {
		status, text := askFor(t, test.method, address+test.path, params, test.files)
		if status != http.StatusBadRequest || !strings.Contains(text, test.text) {
			t.Errorf("%s: status %d, %s, want %d with %q", name, status, text, http.StatusBadRequest, test.text)
		}
	}
	if status, _ := askFor(t, http.MethodGet, address+"/datastore/label?label=1.2.826.78", nil, nil); status != http.StatusNotFound {
		t.Errorf("a refused label was stored: status %d", status)
	}
}
