package dicomweb

import (
	"net/http"
	"regexp"
)

// The resources of DICOMweb, by their paths below the root of a service (PS3.18, tables 10.4.1-1, 10.5.1-1 and 10.6.1-1, and bulk data
// where Orthanc and dcm4chee have them). Nothing in them is percent-encoded: UIDs, numbers and fixed words need no such thing, and what
// is not encoded cannot be decoded into another path further on.
var resources = []struct {
	method  string
	service service
	path    *regexp.Regexp
}{
	{http.MethodGet, qido, pattern(`studies|series|instances`)},
	{http.MethodGet, qido, pattern(`studies/UID/(series|instances)`)},
	{http.MethodGet, qido, pattern(`studies/UID/series/UID/instances`)},
	{http.MethodGet, wado, pattern(`studies/UID(/series/UID(/instances/UID)?)?(/(metadata|rendered|thumbnail|pixeldata))?`)},
	{http.MethodGet, wado, pattern(`studies/UID/series/UID/instances/UID/frames/[0-9]+(,[0-9]+)*(/(rendered|thumbnail|pixeldata))?`)},
	{http.MethodGet, wado, pattern(`studies/UID(/series/UID(/instances/UID)?)?/bulk(data)?(/[0-9A-Za-z][0-9A-Za-z._-]*)*`)},
	{http.MethodPost, stow, pattern(`studies(/UID)?`)},
}

func pattern(p string) *regexp.Regexp {
	const uid = `[0-9](?:[0-9.]{0,62}[0-9])?`
	return regexp.MustCompile(`^(?:` + regexp.MustCompile(`UID`).ReplaceAllString(p, uid) + `)$`)
}

// maxPath and maxQuery bound what is passed on.
const (
	maxPath  = 16 << 10
	maxQuery = 16 << 10
)

// resourceOf finds the service a request of a viewer is for. The path is taken as it was written, without a slash at its start.
func resourceOf(method, escapedPath string) (service, bool) {
	if len(escapedPath) > maxPath {
		return 0, false
	}
	for _, r := range resources {
		if r.method == method && r.path.MatchString(escapedPath) {
			return r.service, true
		}
	}
	return 0, false
}
