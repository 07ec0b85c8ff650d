// Package recorded reads recorded traffic of a real MONAI Label server, for tests that replay it: NAME.req holds a curl command,
// NAME.hdr and NAME.body the answer.
package recorded

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Part is a field of a multipart form, or a file where File is not empty.
type Part struct {
	Field, Content string
	// File is the base name of the file that was sent, FileName the name it was sent under.
	File, FileName string
}

// Request is a request as it was sent.
type Request struct {
	Method string
	// Path is the address below the server's, with the query.
	Path   string
	Header http.Header
	// Parts are those of a multipart form, Fields those of an urlencoded one. Otherwise Body is the body.
	Parts  []Part
	Fields url.Values
	Body   string
}

var option = regexp.MustCompile(` (-X|-F|-H|-d|-I|--data-urlencode) `)

// ReadRequest reads NAME.req.
func ReadRequest(dir, name string) (Request, error) {
	command, err := os.ReadFile(filepath.Join(dir, name+".req"))
	if err != nil {
		return Request{}, err
	}
	line := strings.TrimSpace(string(command))
	at := strings.LastIndex(line, " '")
	if at < 0 {
		return Request{}, fmt.Errorf("recording %s: %q is no curl command that ends in a quoted path", name, line)
	}
	r := Request{Method: http.MethodGet, Path: strings.Trim(line[at+1:], "'"), Header: http.Header{}}
	options := line[:at] + " "
	marks := option.FindAllStringSubmatchIndex(options, -1)
	for i, mark := range marks {
		end := len(options)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		r.add(options[mark[2]:mark[3]], strings.TrimSpace(options[mark[1]:end]))
	}
	return r, nil
}

func (r *Request) add(option, value string) {
	switch option {
	case "-X":
		r.Method = value
	case "-I":
		r.Method = http.MethodHead
	case "-H":
		key, text, _ := strings.Cut(value, ":")
		r.Header.Add(key, strings.TrimSpace(text))
	case "-d":
		if r.Header.Get("Content-Type") != "" {
			r.Body = value
			return
		}
		r.addField(value) // curl sends a form unless it is told otherwise
	case "--data-urlencode":
		r.addField(value)
	case "-F":
		r.Parts = append(r.Parts, readPart(value))
	}
}

func (r *Request) addField(text string) {
	name, value, _ := strings.Cut(text, "=")
	if r.Fields == nil {
		r.Fields = url.Values{}
	}
	r.Fields.Add(name, value)
}

func readPart(value string) Part {
	field, content, _ := strings.Cut(value, "=")
	file, isFile := strings.CutPrefix(content, "@")
	if !isFile {
		return Part{Field: field, Content: content}
	}
	file, fileName, renamed := strings.Cut(file, ";filename=")
	p := Part{Field: field, File: filepath.Base(file), FileName: fileName}
	if !renamed {
		p.FileName = p.File
	}
	return p
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Length int64
}

// ReadAnswer reads NAME.hdr and NAME.body, which is missing where nothing came.
func ReadAnswer(dir, name string) (Answer, error) {
	header, err := os.ReadFile(filepath.Join(dir, name+".hdr"))
	if err != nil {
		return Answer{}, err
	}
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(header))), nil)
	if err != nil {
		return Answer{}, fmt.Errorf("recording %s: %w", name, err)
	}
	_ = res.Body.Close() // it lies in a file of its own
	body, err := os.ReadFile(filepath.Join(dir, name+".body"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Answer{}, err
	}
	text := string(body)
	if strings.HasPrefix(text, "HTTP/1.1 ") {
		text = "" // curl -I writes the header a second time
	}
	return Answer{res.StatusCode, res.Header, text, res.ContentLength}, nil
}
