package jobs

import (
	"fmt"
	"strings"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
)

// Starter makes tasks of one kind.
type Starter interface {
	// Offers lists what can be started, in the order in which clients shall see it. It returns at once.
	Offers() []Offer
	// Prepare checks a request for one of them and returns it as it is kept, with its work. Errors wrap an [annotation.Kind].
	Prepare(name string, params *api.Object) (request *api.Object, work Work, err error)
}

// Group is a kind of tasks: what can be started, and the queue it runs in.
type Group struct {
	Starter
	Queue *Queue
}

// Offer finds what is offered under a name.
func (g *Group) Offer(name string) (Offer, error) {
	for _, o := range g.Offers() {
		if o.Name == name {
			return o, nil
		}
	}
	return Offer{}, notOffered(strings.ToLower(g.Queue.Name()), name, g.Offers())
}

// SubmitAll lets everything that is offered wait for its turn, as it is without parameters, but for what waits already.
func (g *Group) SubmitAll() error {
	for _, o := range g.Offers() {
		request, work, err := g.Prepare(o.Name, &api.Object{})
		if err == nil {
			err = g.Queue.SubmitUnlessWaiting(request, work)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", strings.ToLower(g.Queue.Name()), o.Name, err)
		}
	}
	return nil
}

func notOffered(what, name string, offers []Offer) error {
	if len(offers) == 0 {
		return fmt.Errorf("%s %q: %w; there is none", what, name, annotation.NotFound)
	}
	var names []string
	for _, o := range offers {
		names = append(names, o.Name)
	}
	return fmt.Errorf("%s %q: %w; there is %s", what, name, annotation.NotFound, strings.Join(names, ", "))
}
