package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
	"scrawl/labelserver/jobs"
)

// taskRoutes answers for one kind of background task. A nil group offers nothing and has never run anything.
type taskRoutes struct {
	s     *Server
	name  string // as the protocol's messages have it
	param string // of the path, for what is started
	group *jobs.Group
}

// stopTimeout bounds waiting for a task to end that was told to.
const stopTimeout = 20 * time.Second

// registerTasks adds the routes of all kinds. The lists of what can be started and the newest task of a kind end in a slash, but for
// those of batch inference.
func (s *Server) registerTasks(g *echo.Group) {
	train := taskRoutes{s, "Train", "model", s.o.Train}
	g.GET("/train/", train.status)
	g.DELETE("/train/", train.stop)
	g.POST("/train/", train.startAll)
	g.POST("/train/:model", train.start)

	scoring := taskRoutes{s, "Scoring", "method", s.o.Scoring}
	g.GET("/scoring/", scoring.status)
	g.DELETE("/scoring/", scoring.stop)
	g.POST("/scoring/", scoring.startAll)
	g.POST("/scoring/:method", scoring.start)

	batch := taskRoutes{s, "Batch_infer", "model", s.o.Batch}
	g.GET("/batch/infer", batch.status)
	g.DELETE("/batch/infer", batch.stop)
	g.POST("/batch/infer/:model", batch.startBatch)
}

// status answers with the newest task, with all of them, or with the running one. Slicer asks for the last at every refresh of its window
// and reads 404 as "not running".
func (t taskRoutes) status(c echo.Context) error {
	running, err := queryBool(c, "check_if_running", false)
	if err != nil {
		return err
	}
	all, err := queryBool(c, "all", false)
	if err != nil {
		return err
	}
	if running {
		if t.group != nil {
			if task, ok := t.group.Queue.Running(); ok {
				return reply(c, http.StatusOK, task.Object())
			}
		}
		return api.Errorf(http.StatusNotFound, "No %s Tasks are currently Running", t.name)
	}
	if t.group != nil {
		if newest, ok := t.group.Queue.Newest(); ok && !all {
			return reply(c, http.StatusOK, newest.Object())
		} else if ok {
			list := []*api.Object{}
			for _, task := range t.group.Queue.All() {
				list = append(list, task.Object())
			}
			return reply(c, http.StatusOK, list)
		}
	}
	return api.Errorf(http.StatusNotFound, "No %s Tasks Found", t.name)
}

// stop ends the running task and answers with it, or with null.
func (t taskRoutes) stop(c echo.Context) error {
	if t.group == nil {
		return reply(c, http.StatusOK, nil)
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), stopTimeout)
	defer cancel()
	task, ok := t.group.Queue.Stop(ctx)
	if !ok {
		return reply(c, http.StatusOK, nil)
	}
	return reply(c, http.StatusOK, task.Object())
}

// call is a request to start something.
type call struct {
	name           string
	params         *api.Object
	sync, mayQueue bool
}

func (t taskRoutes) read(c echo.Context, mayQueue bool) (call, error) {
	var r call
	if t.group == nil {
		return r, api.Errorf(http.StatusNotFound, "this server offers no %s", t.name)
	}
	var err error
	if r.sync, err = queryBool(c, "run_sync", false); err != nil {
		return r, err
	}
	if mayQueue {
		if r.mayQueue, err = queryBool(c, "enqueue", false); err != nil {
			return r, err
		}
	}
	if r.params, err = readBody(c); err == nil {
		t.s.nameClient(c, r.params)
	}
	return r, err
}

// named takes what shall be started from the path, unless the parameters name something else, as the protocol has it.
func (t taskRoutes) named(c echo.Context, r *call) error {
	var err error
	if r.name, err = pathParam(c, t.param); err != nil {
		return err
	}
	if name, ok := r.params.Text(t.param); ok && name != "" {
		r.name = name
	}
	r.params.Delete(t.param)
	return nil
}

// start starts one thing and answers with the task, or with its result when that was asked for.
func (t taskRoutes) start(c echo.Context) error {
	r, err := t.read(c, t.s.o.Train == t.group)
	if err == nil {
		err = t.named(c, &r)
	}
	if err != nil {
		return err
	}
	answer, err := t.begin(c.Request().Context(), r)
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, answer)
}

func (t taskRoutes) begin(ctx context.Context, r call) (*api.Object, error) {
	request, work, err := t.group.Prepare(r.name, r.params)
	if err != nil {
		return nil, err
	}
	if r.sync {
		result, err := t.group.Queue.Run(ctx, request, work, r.mayQueue)
		return result, t.told(err)
	}
	task, err := t.group.Queue.Submit(request, work, r.mayQueue)
	if err != nil {
		return nil, t.told(err)
	}
	return task.Object(), nil
}

func (t taskRoutes) told(err error) error {
	if errors.Is(err, jobs.ErrRunning) {
		return &api.Error{Status: http.StatusTooManyRequests, Detail: fmt.Sprintf("++++++++++ %s Task is Already Running", t.name), Cause: err}
	}
	if errors.Is(err, jobs.ErrFull) {
		return &api.Error{Status: http.StatusTooManyRequests, Detail: err.Error(), Cause: err}
	}
	return err
}

// startAll starts everything there is, one after the other: {name: {result, detail}}. The parameters are each one's own, if there are some
// under its name, and then all of them.
func (t taskRoutes) startAll(c echo.Context) error {
	r, err := t.read(c, false)
	if err != nil {
		return err
	}
	if _, running := t.group.Queue.Running(); running {
		return t.told(jobs.ErrRunning)
	}
	r.mayQueue = true
	chosen, _ := r.params.Text(t.param)
	answers := &api.Object{}
	for _, offer := range t.group.Offers() {
		if chosen != "" && offer.Name != chosen {
			continue
		}
		one := r
		one.name, one.params = offer.Name, &api.Object{}
		if own, ok := r.params.Object(offer.Name); ok {
			one.params.Merge(own)
		}
		one.params.Merge(r.params)
		one.params.Delete(t.param)
		answer, err := t.begin(c.Request().Context(), one)
		if err != nil {
			return err
		}
		answers.Set(offer.Name, api.NewObject("result", answer, "detail", nil))
	}
	if chosen != "" && answers.Len() == 0 {
		_, err := t.group.Offer(chosen)
		return err
	}
	return reply(c, http.StatusOK, answers)
}

// startBatch lets a model answer many images: those that the address means, unless the body names some.
func (t taskRoutes) startBatch(c echo.Context) error {
	images, err := queryEnum(c, "images", "all", "all", "labeled", "unlabeled")
	if err != nil {
		return err
	}
	r, err := t.read(c, false)
	if err == nil {
		err = t.named(c, &r)
	}
	if err != nil {
		return err
	}
	if !r.params.Has("images") {
		r.params.Set("images", images)
	}
	answer, err := t.begin(c.Request().Context(), r)
	if err != nil {
		return err
	}
	if !r.sync {
		// Clients of this kind look at the task's details at once, which it has from its beginning.
		id, _ := answer.Text("id")
		if task, ok := t.group.Queue.Task(id); ok {
			answer = task.Object()
		}
	}
	return reply(c, http.StatusOK, answer)
}

// offered describes what a kind offers, for /info/.
func offered(g *jobs.Group, describe func(jobs.Offer) *api.Object) *api.Object {
	o := &api.Object{}
	if g != nil {
		for _, offer := range g.Offers() {
			o.Set(offer.Name, describe(offer))
		}
	}
	return o
}

func trainerObject(o jobs.Offer) *api.Object {
	described := api.NewObject("description", o.Description, "config", offeredConfig(o.Config))
	if len(o.Labels) > 0 {
		described.Set("labels", o.Labels)
	}
	return described
}

func scorerObject(o jobs.Offer) *api.Object {
	described := api.NewObject("description", o.Description)
	if o.Config.Len() > 0 {
		described.Set("config", offeredConfig(o.Config))
	}
	return described
}

func statsObject(o jobs.Offer) *api.Object {
	if o.Stats == nil {
		return &api.Object{}
	}
	return o.Stats
}
