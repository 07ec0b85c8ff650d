// Package dicomwebtest has archives to test against: Archive, in this process, which fails when and as it is told to, and Orthanc, the
// real thing.
package dicomwebtest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"scrawl/adapters/dicomweb"
)

// Archive is a small DICOMweb server under /dicom-web that keeps everything in memory. Its instances are files that begin as DICOM files
// do, with their attributes in JSON behind: what they hold it takes from there.
type Archive struct {
	// Username and Password are asked for if set; so is Token.
	Username, Password, Token string
	// NoPaging makes searches answer all at once whatever is asked for. MaxPage, if not 0, bounds a page, with a warning that there is more.
	NoPaging bool
	MaxPage  int
	// Refuse gives the reason for which an instance is not stored, or 0.
	Refuse func(Instance) int

	server *httptest.Server

	mu        sync.Mutex
	instances []Instance
	faults    []*Fault
	requests  []*http.Request
}

// Instance is one in the archive.
type Instance struct {
	Attributes dicomweb.Dataset
	File       []byte
}

// NewArchive starts an empty archive that ends with the test.
func NewArchive(t testing.TB) *Archive {
	a := &Archive{}
	a.server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.server.Close)
	return a
}

// URL is the root of its DICOMweb.
func (a *Archive) URL() string { return a.server.URL + "/dicom-web" }

// Stop ends the archive: connections to it are refused from now on.
func (a *Archive) Stop() { a.server.Close() }

// String makes a JSON attribute of texts.
func String(vr string, values ...string) dicomweb.Attribute {
	at := dicomweb.Attribute{VR: vr}
	for _, v := range values {
		raw, _ := json.Marshal(v) // a string always encodes
		at.Value = append(at.Value, raw)
	}
	return at
}

// Sequence makes a JSON attribute of items.
func Sequence(items ...dicomweb.Dataset) dicomweb.Attribute {
	at := dicomweb.Attribute{VR: "SQ"}
	for _, item := range items {
		raw, _ := json.Marshal(item) // maps of strings always encode
		at.Value = append(at.Value, raw)
	}
	return at
}

// NewInstance makes an instance of the UIDs and modality given, with a payload where a DICOM file has its pixels.
func NewInstance(study, series, instance, modality string, payload []byte, more dicomweb.Dataset) Instance {
	d := dicomweb.Dataset{
		dicomweb.TagStudyInstanceUID: String("UI", study), dicomweb.TagSeriesInstanceUID: String("UI", series),
		dicomweb.TagSOPInstanceUID: String("UI", instance), dicomweb.TagModality: String("CS", modality),
	}
	for tag, attribute := range more {
		d[tag] = attribute
	}
	text, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	uid := instance + strings.Repeat("\x00", len(instance)%2)
	var b bytes.Buffer
	b.Write(make([]byte, 128))
	b.WriteString("DICM\x02\x00\x03\x00UI")
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(uid))))
	b.WriteString(uid)
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(text))))
	b.Write(text)
	b.Write(payload)
	return Instance{d, b.Bytes()}
}

// ParseInstance reads back what NewInstance has made.
func ParseInstance(file []byte) (i Instance, payload []byte, err error) {
	uid, err := dicomweb.InstanceUID(bytes.NewReader(file))
	if err != nil {
		return i, nil, err
	}
	at := 132 + 8 + len(uid) + len(uid)%2
	if len(file) < at+4 {
		return i, nil, io.ErrUnexpectedEOF
	}
	n := int(binary.LittleEndian.Uint32(file[at:]))
	if len(file) < at+4+n {
		return i, nil, io.ErrUnexpectedEOF
	}
	i.File = file
	return i, file[at+4+n:], json.Unmarshal(file[at+4:at+4+n], &i.Attributes)
}

// Add puts instances into the archive, over those of the same UID.
func (a *Archive) Add(instances ...Instance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range instances {
		a.instances = slices.DeleteFunc(a.instances, func(o Instance) bool { return same(o, i, dicomweb.TagSOPInstanceUID) })
		a.instances = append(a.instances, i)
	}
}

func same(a, b Instance, tag string) bool { return a.Attributes.Text(tag) == b.Attributes.Text(tag) }

// RemoveSeries takes a series out of the archive.
func (a *Archive) RemoveSeries(uid string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instances = slices.DeleteFunc(a.instances, func(i Instance) bool { return i.Attributes.Text(dicomweb.TagSeriesInstanceUID) == uid })
}

// Instances are those in the archive with a value of an attribute.
func (a *Archive) Instances(tag, value string) []Instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []Instance
	for _, i := range a.instances {
		if i.Attributes.Text(tag) == value {
			found = append(found, i)
		}
	}
	return found
}

// Requests are those that have come, oldest first, with their bodies read away.
func (a *Archive) Requests() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

// Count is the number of requests of a method whose path ends in suffix.
func (a *Archive) Count(method, suffix string) int {
	n := 0
	for _, r := range a.Requests() {
		if r.Method == method && strings.HasSuffix(r.URL.Path, suffix) {
			n++
		}
	}
	return n
}

func (a *Archive) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests = append(a.requests, r.Clone(r.Context()))
	fault := a.nextFault(r)
	a.mu.Unlock()
	if fault != nil {
		fault(w, r, http.HandlerFunc(a.answer))
		return
	}
	a.answer(w, r)
}

func (a *Archive) answer(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if (a.Username != "" && (user != a.Username || password != a.Password)) || (a.Token != "" && r.Header.Get("Authorization") != "Bearer "+a.Token) {
		w.Header().Set("WWW-Authenticate", `Basic realm="archive"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/dicom-web/")
	at := strings.Split(path, "/")
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method == http.MethodPost:
		a.store(w, r)
	case path == "series":
		a.search(w, r, a.series())
	case len(at) == 5 && at[4] == "instances":
		a.search(w, r, attributes(a.Instances(dicomweb.TagSeriesInstanceUID, at[3])))
	case len(at) == 5 && at[4] == "metadata":
		a.metadata(w, at[3])
	case len(at) == 4:
		sendInstances(w, a.Instances(dicomweb.TagSeriesInstanceUID, at[3]))
	case len(at) == 6:
		sendInstances(w, a.Instances(dicomweb.TagSOPInstanceUID, at[5]))
	default:
		http.NotFound(w, r)
	}
}

func attributes(instances []Instance) []dicomweb.Dataset {
	var list []dicomweb.Dataset
	for _, i := range instances {
		list = append(list, i.Attributes)
	}
	return list
}

// series are the attributes of the first instance of each series, with the number of its instances.
func (a *Archive) series() []dicomweb.Dataset {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []dicomweb.Dataset
	at := map[string]int{}
	var counts []int
	for _, i := range a.instances {
		uid := i.Attributes.Text(dicomweb.TagSeriesInstanceUID)
		if _, known := at[uid]; !known {
			at[uid] = len(list)
			d := dicomweb.Dataset{}
			for tag, attribute := range i.Attributes {
				d[tag] = attribute
			}
			delete(d, dicomweb.TagSOPInstanceUID)
			list, counts = append(list, d), append(counts, 0)
		}
		counts[at[uid]]++
	}
	for i, d := range list {
		d[dicomweb.TagSeriesInstances] = dicomweb.Attribute{VR: "IS", Value: []json.RawMessage{json.RawMessage(strconv.Itoa(counts[i]))}}
	}
	return list
}

var keywords = map[string]string{"Modality": dicomweb.TagModality, "SeriesInstanceUID": dicomweb.TagSeriesInstanceUID, "PatientID": dicomweb.TagPatientID}

func (a *Archive) search(w http.ResponseWriter, r *http.Request, found []dicomweb.Dataset) {
	query := r.URL.Query()
	for keyword, tag := range keywords {
		if query.Has(keyword) {
			found = slices.DeleteFunc(found, func(d dicomweb.Dataset) bool { return d.Text(tag) != query.Get(keyword) })
		}
	}
	if offset, err := strconv.Atoi(query.Get("offset")); err == nil && !a.NoPaging {
		found = found[min(offset, len(found)):]
	}
	if limit, err := strconv.Atoi(query.Get("limit")); err == nil && !a.NoPaging && limit < len(found) {
		found = found[:limit]
	}
	if a.MaxPage > 0 && a.MaxPage < len(found) {
		w.Header().Set("Warning", fmt.Sprintf(`299 archive "There are %d additional results that can be requested"`, len(found)-a.MaxPage))
		found = found[:a.MaxPage]
	}
	if len(found) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	sendJSON(w, http.StatusOK, found)
}

func (a *Archive) metadata(w http.ResponseWriter, series string) {
	found := a.Instances(dicomweb.TagSeriesInstanceUID, series)
	if len(found) == 0 {
		http.Error(w, "no such series", http.StatusNotFound)
		return
	}
	sendJSON(w, http.StatusOK, attributes(found))
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/dicom+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a reader that left is the test's
}

func sendInstances(w http.ResponseWriter, instances []Instance) {
	if len(instances) == 0 {
		http.Error(w, "not here", http.StatusNotFound)
		return
	}
	m := multipart.NewWriter(w)
	w.Header().Set("Content-Type", `multipart/related; type="application/dicom"; boundary=`+m.Boundary())
	for _, i := range instances {
		part, err := m.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/dicom"}})
		if err != nil {
			return
		}
		if _, err := part.Write(i.File); err != nil {
			return
		}
	}
	_ = m.Close()
}

func (a *Archive) store(w http.ResponseWriter, r *http.Request) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var stored, failed []dicomweb.Dataset
	parts := multipart.NewReader(r.Body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		file, err := io.ReadAll(part)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		uid, err := dicomweb.InstanceUID(bytes.NewReader(file))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		item := dicomweb.Dataset{dicomweb.TagReferencedSOPInstanceUID: String("UI", uid)}
		i, _, err := ParseInstance(file)
		reason := 0
		if a.Refuse != nil {
			reason = a.Refuse(i)
		}
		if err != nil {
			reason = 0xC000
		}
		if reason != 0 {
			item[dicomweb.TagFailureReason] = dicomweb.Attribute{VR: "US", Value: []json.RawMessage{json.RawMessage(strconv.Itoa(reason))}}
			failed = append(failed, item)
			continue
		}
		a.Add(i)
		item[dicomweb.TagRetrieveURL] = String("UR", a.URL()+"/studies/…")
		stored = append(stored, item)
	}
	status := http.StatusOK
	if len(failed) > 0 {
		status = http.StatusAccepted
		if len(stored) == 0 {
			status = http.StatusConflict
		}
	}
	sendJSON(w, status, dicomweb.Dataset{dicomweb.TagReferencedSOPs: Sequence(stored...), dicomweb.TagFailedSOPs: Sequence(failed...)})
}
