package labelserver

import (
	"context"
	"io"
	"os"

	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/httpapi"
	"scrawl/labelserver/strategy"
)

// strategies are what clients can ask for the next image by; each network ranks images by its uncertainty under the name of its first
// model.
func (s *Server) strategies() []httpapi.Strategy {
	var rankings []strategy.Ranking
	seen := map[string]bool{}
	for _, e := range s.annotator.Entries() {
		if !seen[e.Network] && e.Engine() != nil {
			seen[e.Network] = true
			rankings = append(rankings, strategy.Ranking{Model: e.Name, Scorer: scorer{s, e.Name}})
		}
	}
	var list []httpapi.Strategy
	for _, one := range strategy.New(s.store, strategy.Options{Rankings: rankings, Go: s.inBackground}) {
		list = append(list, one)
	}
	return list
}

// inBackground runs work until it is done or the server is closed.
func (s *Server) inBackground(work func(ctx context.Context)) {
	s.working.Go(func() { work(s.base) })
}

// scorer judges images by one model's uncertainty.
type scorer struct {
	s     *Server
	model string
}

// Version implements strategy.Scorer.
func (r scorer) Version(ctx context.Context, client string) (string, error) {
	return r.s.annotator.WeightsVersion(ctx, r.model, client)
}

// Content implements strategy.Scorer: what a checksum would say, without reading the file. An image that a remote archive has not sent
// yet is not fetched to be judged.
func (r scorer) Content(_ context.Context, item datastore.Item) (string, error) {
	info, err := os.Stat(item.Path)
	if err != nil {
		return "", err
	}
	return annotation.FileVersion(info), nil
}

// Score implements strategy.Scorer.
func (r scorer) Score(ctx context.Context, client string, item datastore.Item) (float64, error) {
	image, err := annotation.StoredImage(item, decodeImage)
	if err != nil {
		return 0, err
	}
	return r.s.annotator.ImageUncertainty(ctx, r.model, client, image)
}

func decodeImage(_ context.Context, name string, r io.Reader) (*volume.Volume, error) {
	return codec{}.Decode(name, r)
}
