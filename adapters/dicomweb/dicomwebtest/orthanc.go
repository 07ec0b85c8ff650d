package dicomwebtest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// orthancHint is how to get what the tests need.
const orthancHint = "on Debian: apt-get install orthanc orthanc-dicomweb (SCRAWL_ORTHANC and SCRAWL_ORTHANC_DICOMWEB name the program and the plugin where they lie elsewhere)"

// Orthanc is a running Orthanc with its DICOMweb plugin, on this machine only and with an empty storage of its own.
type Orthanc struct {
	// Username and Password are what it asks for.
	Username, Password string

	address string
	config  string
	program string
	log     string
	process *exec.Cmd
}

// NewOrthanc starts an Orthanc that ends with the test. Without one installed the test is skipped, or fails if SCRAWL_REQUIRE is 1.
func NewOrthanc(t testing.TB) *Orthanc {
	t.Helper()
	program, plugin, err := findOrthanc()
	if err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			t.Fatalf("SCRAWL_REQUIRE=1, but %v; %s", err, orthancHint)
		}
		t.Skipf("SKIPPED, %v; %s", err, orthancHint)
	}
	dir := t.TempDir()
	port := freePort(t)
	o := &Orthanc{Username: "scrawl", Password: "orthanc-test", program: program, address: fmt.Sprintf("http://127.0.0.1:%d", port),
		config: filepath.Join(dir, "orthanc.json"), log: filepath.Join(dir, "orthanc.log")}
	config, err := json.Marshal(map[string]any{
		"Name": "test", "StorageDirectory": filepath.Join(dir, "storage"), "IndexDirectory": filepath.Join(dir, "storage"),
		"HttpPort": port, "DicomServerEnabled": false, "RemoteAccessAllowed": false, "OverwriteInstances": false,
		"AuthenticationEnabled": true, "RegisteredUsers": map[string]string{o.Username: o.Password},
		"Plugins": []string{plugin}, "DicomWeb": map[string]any{"Enable": true, "Root": "/dicom-web/"},
	})
	if err == nil {
		err = os.WriteFile(o.config, config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Stop(t) })
	o.Start(t)
	return o
}

func findOrthanc() (program, plugin string, err error) {
	for _, name := range []string{os.Getenv("SCRAWL_ORTHANC"), "Orthanc", "/usr/sbin/Orthanc"} {
		if program, err = exec.LookPath(name); err == nil && name != "" {
			break
		}
	}
	if err != nil {
		return "", "", errors.New("Orthanc is not installed")
	}
	const library = "libOrthancDicomWeb.so"
	for _, path := range []string{os.Getenv("SCRAWL_ORTHANC_DICOMWEB"), "/usr/share/orthanc/plugins/" + library, "/usr/lib/orthanc/" + library} {
		if _, err := os.Stat(path); err == nil {
			return program, path, nil
		}
	}
	return "", "", errors.New("the DICOMweb plugin of Orthanc is not installed")
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it was only to find a number
	return l.Addr().(*net.TCPAddr).Port
}

// URL is the root of its DICOMweb.
func (o *Orthanc) URL() string { return o.address + "/dicom-web" }

// Start starts it again after Stop, with what it had stored.
func (o *Orthanc) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(o.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own
	o.process = exec.Command(o.program, o.config)
	o.process.Stdout, o.process.Stderr = log, log
	if err := o.process.Start(); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if res, err := o.send(http.MethodGet, "/system", nil); err == nil {
			_ = res.Body.Close() // its being there is enough
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(o.log)
	t.Fatalf("Orthanc does not answer:\n%s", text)
}

// Stop ends it; what it has stored stays.
func (o *Orthanc) Stop(t testing.TB) {
	t.Helper()
	if o.process == nil {
		return
	}
	if err := o.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Logf("stopping Orthanc: %v", err)
	}
	late := time.AfterFunc(20*time.Second, func() { _ = o.process.Process.Kill() }) // it may have ended just now
	_ = o.process.Wait()                                                            // it ends by our signal
	late.Stop()
	o.process = nil
}

func (o *Orthanc) send(method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequest(method, o.address+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(o.Username, o.Password)
	req.Close = true
	return http.DefaultClient.Do(req)
}

// call uses Orthanc's own interface, not DICOMweb.
func (o *Orthanc) call(t testing.TB, method, path string, body []byte) []byte {
	t.Helper()
	res, err := o.send(method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("Orthanc answers %s %s with %d, %v: %s", method, path, res.StatusCode, err, text)
	}
	return text
}

// Put stores DICOM files.
func (o *Orthanc) Put(t testing.TB, files ...[]byte) {
	t.Helper()
	for _, file := range files {
		o.call(t, http.MethodPost, "/instances", file)
	}
}

// find gives Orthanc's own ids of what has a UID.
func (o *Orthanc) find(t testing.TB, uid string) (ids []string, paths []string) {
	t.Helper()
	var found []struct{ ID, Path, Type string }
	if err := json.Unmarshal(o.call(t, http.MethodPost, "/tools/lookup", []byte(uid)), &found); err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		ids, paths = append(ids, f.ID), append(paths, f.Path)
	}
	return ids, paths
}

// Delete removes the series or study with a UID.
func (o *Orthanc) Delete(t testing.TB, uid string) {
	t.Helper()
	_, paths := o.find(t, uid)
	if len(paths) == 0 {
		t.Fatalf("Orthanc has no %s", uid)
	}
	for _, path := range paths {
		o.call(t, http.MethodDelete, path, nil)
	}
}

// Files are the instances of a series as they are stored.
func (o *Orthanc) Files(t testing.TB, series string) [][]byte {
	t.Helper()
	ids, _ := o.find(t, series)
	if len(ids) != 1 {
		t.Fatalf("Orthanc has %d of series %s", len(ids), series)
	}
	var of struct{ Instances []string }
	if err := json.Unmarshal(o.call(t, http.MethodGet, "/series/"+ids[0], nil), &of); err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for _, id := range of.Instances {
		files = append(files, o.call(t, http.MethodGet, "/instances/"+id+"/file", nil))
	}
	return files
}

// FillUIDs gives a DICOM file in explicit little endian, whose UIDs somebody emptied to hide a patient, a study and a series; the
// instance and its class are those of the file meta information. No archive takes it otherwise.
func FillUIDs(t testing.TB, file []byte, study, series string) []byte {
	t.Helper()
	for _, fill := range []struct {
		group, element uint16
		value          string
	}{{0x0008, 0x0016, metaUID(t, file, 2)}, {0x0008, 0x0018, metaUID(t, file, 3)}, {0x0020, 0x000D, study}, {0x0020, 0x000E, series}} {
		empty := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, fill.group), fill.element)
		empty = append(empty, 'U', 'I', 0, 0)
		at := bytes.Index(file, empty)
		if at < 0 {
			t.Fatalf("the file has no empty element (%04x,%04x)", fill.group, fill.element)
		}
		value := fill.value + strings.Repeat("\x00", len(fill.value)%2)
		filled := binary.LittleEndian.AppendUint16(bytes.Clone(file[:at+6]), uint16(len(value)))
		filled = append(filled, value...)
		file = append(filled, file[at+8:]...)
	}
	return file
}

// metaUID is an element of the file meta information.
func metaUID(t testing.TB, file []byte, element byte) string {
	t.Helper()
	at := bytes.Index(file, []byte{2, 0, element, 0, 'U', 'I'})
	if at < 0 || at > 1000 {
		t.Fatalf("the file has no element (0002,%04x)", element)
	}
	n := int(binary.LittleEndian.Uint16(file[at+6:]))
	return strings.TrimRight(string(file[at+8:at+8+n]), "\x00")
}

// Shared is a folder of the real images that lie beside the repository, where SCRAWL_SHARED or ../shared has them.
func Shared(t testing.TB, elements ...string) string {
	t.Helper()
	root := os.Getenv("SCRAWL_SHARED")
	for dir := "."; root == "" && len(dir) < 40; dir = filepath.Join("..", dir) {
		if _, err := os.Stat(filepath.Join(dir, "shared", "data")); err == nil {
			root = filepath.Join(dir, "shared")
		}
	}
	path := filepath.Join(append([]string{root, "data"}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED, no real images at %s; SCRAWL_SHARED names the folder that holds them", path)
	}
	return path
}

// ReadFiles reads all files of a folder in the order of their names.
func ReadFiles(t testing.TB, dir string) [][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for _, e := range entries {
		file, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
