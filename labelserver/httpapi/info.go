package httpapi

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
)

// getInfo answers GET /info/. Nothing it asks waits for an inference.
func (s *Server) getInfo(c echo.Context) error {
	info, err := s.info(c.Request().Context())
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, info)
}

// info describes the server in the order of the incumbent. There is no member config: Slicer takes one for a server of old and
// refuses it. Nothing is null, since clients count and loop without looking.
func (s *Server) info(ctx context.Context) (*api.Object, error) {
	stats, err := s.stats(ctx)
	if err != nil {
		return nil, err
	}
	models := s.o.Service.Models()
	described := &api.Object{}
	for _, m := range models {
		described.Set(m.Name, modelObject(m))
	}
	strategies := &api.Object{}
	for _, strategy := range s.o.Strategies {
		strategies.Set(strategy.Name(), api.NewObject("description", strategy.Description()))
	}
	return api.NewObject(
		"name", s.o.About.Name, "description", s.o.About.Description, "version", s.o.About.Version,
		"labels", unionOfLabels(models),
		"models", described,
		"trainers", offered(s.o.Train, trainerObject),
		"strategies", strategies,
		"scoring", offered(s.o.Scoring, scorerObject),
		"train_stats", offered(s.o.Train, statsObject),
		"datastore", stats,
	), nil
}

func modelObject(m annotation.Model) *api.Object {
	dimension := m.Dimension
	if dimension != 2 {
		dimension = 3
	}
	return api.NewObject("type", m.Type, "labels", annotation.LabelObject(m.Labels), "dimension", dimension, "description", m.Description,
		"config", offeredConfig(m.Config))
}

// offeredConfig leaves out what clients cannot show: Slicer takes the first item of every list, and there is none in an empty
// one, and null is no value of an option.
func offeredConfig(config *api.Object) *api.Object {
	offered := &api.Object{}
	for name, value := range config.All() {
		switch value := value.(type) {
		case nil:
			continue
		case []string:
			if len(value) == 0 {
				continue
			}
		case []any:
			if len(value) == 0 {
				continue
			}
		}
		offered.Set(name, value)
	}
	return offered
}

// unionOfLabels lists each label once, in the order of the models and of their numbers. It is a list and never an object: OHIF
// pushes to it. Background is left out: clients number segments by position.
func unionOfLabels(models []annotation.Model) []string {
	labels := []string{}
	seen := map[string]bool{"background": true}
	for _, m := range models {
		for name := range annotation.LabelObject(m.Labels).All() {
			if !seen[name] {
				seen[name] = true
				labels = append(labels, name)
			}
		}
	}
	return labels
}
