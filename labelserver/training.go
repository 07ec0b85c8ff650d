package labelserver

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"scrawl/apps"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/config"
	"scrawl/labelserver/jobs"
	"scrawl/labelserver/versions"
)

// watchTask is how often a task's watcher is told.
const watchTask = 200 * time.Millisecond

// Train trains a network of the configured app on the final labels of the configured studies, as a server does when a client asks it to,
// and keeps what has helped as a new version, which a running server takes over. model "" is the app's first. watch is told of the
// task now and then. The result are the figures of MONAI Label's train_stats.
func Train(ctx context.Context, cfg *config.Config, p Parts, model string, params *api.Object, watch func(*api.Task)) (stats *api.Object, err error) {
	s, _, err := assemble(ctx, cfg, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if model == "" {
		model = s.networks.names()[0]
	}
	queue, err := jobs.OpenQueue(jobs.QueueOptions{Name: "Train", Log: p.Log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, queue.Close()) }()
	request, work, err := s.trainer(s.data()).Prepare(model, params)
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		stats, err = queue.Run(ctx, request, work, false)
	}()
	tick := time.NewTicker(watchTask)
	defer tick.Stop()
	for {
		select {
		case <-done:
			if task, ok := queue.Newest(); ok {
				watch(task)
			}
			return stats, err
		case <-tick.C:
			if task, ok := queue.Running(); ok {
				watch(task)
			}
		}
	}
}

// Promote keeps what an annotator has taught a network as a new version of it, for everybody. The weights are those that answer the
// annotator's untouched slices. user and label may be "" where there is no choice.
func Promote(ctx context.Context, cfg *config.Config, p Parts, model, user, label string) (v versions.Version, err error) {
	s, _, err := assemble(ctx, cfg, p)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if model == "" {
		model = s.networks.names()[0]
	}
	now, err := s.networks.find(model)
	if err != nil {
		return v, err
	}
	taught, err := chooseTaught(cfg, now, user, label)
	if err != nil {
		return v, err
	}
	for _, e := range s.annotator.Entries() {
		if e.Network != now.model.Name {
			continue
		}
		file, set, err := taught.File(e)
		if err != nil {
			return v, err
		}
		data, err := file.Marshal()
		if err != nil {
			return v, err
		}
		return s.networks.Publish(ctx, now.model.Name, data, versions.Version{Parent: now.checksum, Origin: versions.Promoted, Details: api.NewObject(
			"user", taught.User, "label", taught.Label, "set", set, "learned", taught.Learned, "taught", taught.Time.UTC().Format(time.RFC3339))})
	}
	return v, fmt.Errorf("model %q: %w", model, annotation.NotFound)
}

// chooseTaught finds the one lineage that is meant, of those that began with the weights that are served.
func chooseTaught(cfg *config.Config, now servedNetwork, user, label string) (annotation.Taught, error) {
	all, err := annotation.ListTaught(cfg.LineageDir())
	if err != nil {
		return annotation.Taught{}, err
	}
	weights, err := hex.DecodeString(strings.TrimPrefix(now.checksum, "SHA256:"))
	if err != nil {
		return annotation.Taught{}, err
	}
	var fit []annotation.Taught
	var old int
	for _, t := range all {
		switch {
		case t.Network != now.model.Name || user != "" && t.User != user || label != "" && t.Label != label:
		case t.Weights != hex.EncodeToString(weights):
			old++
		default:
			fit = append(fit, t)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0 && old > 0:
		return annotation.Taught{}, fmt.Errorf("what was taught belongs to other weights of %s than those that are served: roll back to these first", now.model.Name)
	case len(fit) == 0:
		return annotation.Taught{}, fmt.Errorf("nobody has taught %s anything that fits; `scrawl model taught` lists what there is", now.model.Name)
	}
	var names []string
	for _, t := range fit {
		names = append(names, fmt.Sprintf("user %q, label %q", t.User, t.Label))
	}
	return annotation.Taught{}, fmt.Errorf("there is more than one to choose from: %s", strings.Join(names, "; "))
}

// Versions lists the networks of the configured app with their versions. Nothing is loaded.
func Versions(cfg *config.Config) ([]NetworkVersions, error) {
	app, err := apps.Open(cfg.App)
	if err != nil {
		return nil, err
	}
	store := versions.NewStore(cfg.VersionDir())
	var all []NetworkVersions
	for _, m := range app.Models {
		if !m.HasNetwork() {
			continue
		}
		n := NetworkVersions{Network: m.Name}
		if n.Current, err = store.Current(m.Name); err != nil {
			return nil, err
		}
		data, err := app.ReadNetwork(m)
		if err != nil {
			return nil, err
		}
		n.Versions = []versions.Version{{Checksum: versions.Checksum(data), Origin: versions.Builtin}}
		list, err := store.List(m.Name)
		if err != nil {
			return nil, err
		}
		n.Versions = append(n.Versions, list...)
		all = append(all, n)
	}
	return all, nil
}

// NetworkVersions are the versions of one network; the first is the app's own, number 0.
type NetworkVersions struct {
	Network  string
	Current  int
	Versions []versions.Version
}

// Select makes a version of a network the one to be served; a running server takes it over. number -1 is the one before the one that is
// served now. network "" is the app's first. It returns the version.
func Select(cfg *config.Config, network string, number int) (string, int, error) {
	all, err := Versions(cfg)
	if err != nil {
		return "", 0, err
	}
	for _, n := range all {
		if network != "" && n.Network != network {
			continue
		}
		store := versions.NewStore(cfg.VersionDir())
		if number < 0 {
			if n.Current == 0 {
				return "", 0, fmt.Errorf("the app's own network of %s is served; there is nothing to go back to", n.Network)
			}
			if number, err = store.Previous(n.Network, n.Current); err != nil {
				return "", 0, err
			}
		}
		return n.Network, number, store.Select(n.Network, number)
	}
	return "", 0, fmt.Errorf("network %q: %w", network, annotation.NotFound)
}
