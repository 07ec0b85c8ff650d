// Package jobs runs what takes longer than a request: training, scoring, and inference on many images. Each kind has a queue of its
// own with one worker, as clients expect: of one kind one task runs at a time, others wait if they were told to.
//
// # Tasks
//
// A task has the states and the wire form of MONAI Label's. What it says on its way are its details, of which clients show
// the last lines. A task can be stopped at any time; its work ends through its context, and what it has made so far is up to
// the work: training keeps a checkpoint, scoring and inference keep what is done.
//
// # Restarts
//
// The tasks of a queue are written to a file whenever one changes its state, and now and then while one runs. A task that
// the file shows as running or waiting when a queue is opened was interrupted: it is taken up again where the queue's
// owner knows how (training goes on from its checkpoint), and otherwise ends as an error that says so.
package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"scrawl/apps/atomicfile"
	"scrawl/labelserver/api"
)

// Work is what a task does. It ends soon after ctx does. Its result is what a client gets that waits for it.
type Work func(ctx context.Context, told *Told) (*api.Object, error)

// ErrRunning is returned for a task that may not wait while another runs.
var ErrRunning = errors.New("a task is already running")

// ErrFull is returned for a task that would wait behind too many others.
var ErrFull = errors.New("too many tasks are waiting")

// QueueOptions say how a queue works.
type QueueOptions struct {
	// Name is what the protocol's messages call the kind: Train, Scoring, Batch_infer.
	Name string
	// File keeps the tasks; "" keeps them in memory only.
	File string
	// Resume returns the work of a request that was interrupted, or nil when it cannot be taken up again. May be nil.
	Resume func(request *api.Object) Work
	// Done is told of each task that has ended well, before the next begins. It must not use the queue itself. May be nil.
	Done func()
	Log  zerolog.Logger
}

// Queue runs tasks of one kind, one at a time. It is safe for concurrent use.
type Queue struct {
	o    QueueOptions
	ctx  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	tasks   []*task // in order of submission
	running *task
	closing bool
	saved   time.Time
	worker  sync.WaitGroup
}

// task is a task with its work.
type task struct {
	api.Task
	work   Work
	ctx    context.Context
	cancel context.CancelFunc
	stop   bool // somebody asked for its end
	done   chan struct{}
	result *api.Object
	err    error
}

// keptTasks is how many ended tasks a queue remembers, maxWaiting how many may wait, keptLines how many lines there are of each, savedEvery
// how often a running task is written down.
const (
	keptTasks  = 50
	maxWaiting = 100
	keptLines  = 200
	savedEvery = 5 * time.Second
)

// OpenQueue reads the tasks of earlier runs. Nothing runs until Start.
func OpenQueue(o QueueOptions) (*Queue, error) {
	q := &Queue{o: o}
	q.ctx, q.stop = context.WithCancel(context.Background())
	if err := q.load(); err != nil {
		return nil, fmt.Errorf("tasks of kind %s: %w", o.Name, err)
	}
	return q, nil
}

// Name is the kind's name in messages.
func (q *Queue) Name() string { return q.o.Name }

// Start takes up what was interrupted.
func (q *Queue) Start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.tasks {
		if t.Status != api.TaskRunning && t.Status != api.TaskSubmitted {
			continue
		}
		if q.o.Resume != nil {
			t.work = q.o.Resume(t.Request)
		}
		if t.work == nil {
			t.say("interrupted: the server ended while this task was " + state(t.Status))
			t.Status, t.End = api.TaskError, time.Now()
			close(t.done)
			continue
		}
		t.say("the server was started again")
		t.Status = api.TaskSubmitted
	}
	q.save()
	q.next()
}

func state(s api.TaskStatus) string {
	if s == api.TaskRunning {
		return "running"
	}
	return "waiting"
}

// Submit adds a task. It begins at once when none runs; otherwise it waits if enqueue is set, and is refused with ErrRunning if
// not. The answer is the task as it was before it began.
func (q *Queue) Submit(request *api.Object, work Work, enqueue bool) (*api.Task, error) {
	t, err := q.submit(context.Background(), request, work, enqueue)
	if err != nil {
		return nil, err
	}
	submitted := &api.Task{ID: t.ID, Status: api.TaskSubmitted, Request: t.Request, Start: t.Start}
	return submitted, nil
}

// SubmitUnlessWaiting adds a task that waits for its turn, unless one of the same request does already: that one will see all that has
// come about until it begins.
func (q *Queue) SubmitUnlessWaiting(request *api.Object, work Work) error {
	waits, err := q.waits(request)
	if err != nil || waits {
		return err
	}
	_, err = q.submit(context.Background(), request, work, true)
	return err
}

func (q *Queue) waits(request *api.Object) (bool, error) {
	want, err := api.Encode(request)
	if err != nil {
		return false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.tasks, func(t *task) bool {
		got, err := api.Encode(t.Request)
		return t.Status == api.TaskSubmitted && err == nil && bytes.Equal(got, want)
	}), nil
}

// Run submits a task and waits for its result. When ctx ends first, the task is stopped.
func (q *Queue) Run(ctx context.Context, request *api.Object, work Work, enqueue bool) (*api.Object, error) {
	t, err := q.submit(ctx, request, work, enqueue)
	if err != nil {
		return nil, err
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		q.abandon(t)
		<-t.done
	}
	if t.err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return t.result, t.err
}

// abandon ends a task that has not begun; one that has ends by its context.
func (q *Queue) abandon(t *task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.Status == api.TaskSubmitted {
		t.Status, t.End, t.err = api.TaskStopped, time.Now(), context.Canceled
		t.say("stopped before it began")
		close(t.done)
		q.save()
	}
}

func (q *Queue) submit(ctx context.Context, request *api.Object, work Work, enqueue bool) (*task, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closing {
		return nil, errors.New("the server is about to end")
	}
	if q.running != nil && !enqueue {
		return nil, ErrRunning
	}
	if q.waiting() >= maxWaiting {
		return nil, ErrFull
	}
	t := &task{Task: api.Task{ID: uuid.NewString(), Status: api.TaskSubmitted, Request: request, Start: time.Now()}, work: work, done: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancel(q.ctx)
	context.AfterFunc(ctx, t.cancel)
	q.tasks = append(q.tasks, t)
	q.forget()
	q.next()
	q.save()
	return t, nil
}

// waiting counts the tasks that have not begun. It is called with mu held.
func (q *Queue) waiting() int {
	n := 0
	for _, t := range q.tasks {
		if t.Status == api.TaskSubmitted {
			n++
		}
	}
	return n
}

// forget drops the oldest of too many ended tasks. It is called with mu held.
func (q *Queue) forget() {
	ended := func(t *task) bool { return !t.End.IsZero() }
	for n := len(q.tasks) - keptTasks; n > 0; n-- {
		i := slices.IndexFunc(q.tasks, ended)
		if i < 0 {
			return
		}
		q.tasks = slices.Delete(q.tasks, i, i+1)
	}
}

// next begins the first task that waits, when none runs. It is called with mu held.
func (q *Queue) next() {
	if q.running != nil || q.closing {
		return
	}
	i := slices.IndexFunc(q.tasks, func(t *task) bool { return t.Status == api.TaskSubmitted })
	if i < 0 {
		return
	}
	t := q.tasks[i]
	if t.ctx == nil {
		t.ctx, t.cancel = context.WithCancel(q.ctx)
	}
	t.Status = api.TaskRunning
	q.running = t
	q.worker.Go(func() { q.run(t) })
}

// run does a task's work.
func (q *Queue) run(t *task) {
	q.o.Log.Info().Str("task", t.ID).Str("kind", q.o.Name).Msg("task begins")
	result, err := attempt(t.ctx, t.work, &Told{queue: q, task: t})
	t.cancel()
	q.mu.Lock()
	defer q.mu.Unlock()
	t.result, t.err = result, err
	q.running = nil
	defer close(t.done)
	if q.closing && err != nil && !t.stop {
		return // it stays on record as running, to be taken up again
	}
	t.End = time.Now()
	switch {
	case err == nil:
		t.Status = api.TaskDone
		if q.o.Done != nil {
			q.o.Done()
		}
	case t.ctx.Err() != nil && errors.Is(err, context.Canceled):
		t.Status = api.TaskStopped
		t.say("stopped")
	default:
		t.Status = api.TaskError
		t.say("failed: " + err.Error())
	}
	q.o.Log.Info().Err(err).Str("task", t.ID).Str("kind", q.o.Name).Str("status", string(t.Status)).Msg("task ended")
	q.next()
	q.save()
}

// attempt turns a panic of the work into its error: a task must not take the server down.
func attempt(ctx context.Context, work Work, told *Told) (result *api.Object, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			told.queue.o.Log.Error().Str("task", told.task.ID).Str("stack", string(debug.Stack())).Msg("panic")
			err = fmt.Errorf("the task failed unexpectedly: %v", cause)
		}
	}()
	return work(ctx, told)
}

// Newest is the task submitted last.
func (q *Queue) Newest() (*api.Task, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.tasks) == 0 {
		return nil, false
	}
	return q.tasks[len(q.tasks)-1].copy(), true
}

// Running is the task that runs now.
func (q *Queue) Running() (*api.Task, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running == nil {
		return nil, false
	}
	return q.running.copy(), true
}

// Task finds a task by its id.
func (q *Queue) Task(id string) (*api.Task, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.tasks {
		if t.ID == id {
			return t.copy(), true
		}
	}
	return nil, false
}

// All lists the tasks that are remembered, the oldest first.
func (q *Queue) All() []*api.Task {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]*api.Task, len(q.tasks))
	for i, t := range q.tasks {
		all[i] = t.copy()
	}
	return all
}

// Stop ends the running task and returns it as it has become. It waits for the work to end, or for ctx. ok is false when none runs.
func (q *Queue) Stop(ctx context.Context) (stopped *api.Task, ok bool) {
	q.mu.Lock()
	t := q.running
	if t == nil {
		q.mu.Unlock()
		return nil, false
	}
	t.stop = true
	t.cancel()
	q.mu.Unlock()
	select {
	case <-t.done:
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return t.copy(), true
}

// Close stops the running task, which stays on record as interrupted, and waits for its end.
func (q *Queue) Close() error {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	q.stop()
	q.worker.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.save()
	return nil
}

func (t *task) copy() *api.Task {
	c := t.Task
	c.Details = slices.Clone(t.Details)
	return &c
}

const lineTime = "2006-01-02 15:04:05"

func (t *task) say(line string) {
	t.Details = append(t.Details, "["+time.Now().Format(lineTime)+"] "+line)
	if over := len(t.Details) - keptLines; over > 0 {
		t.Details = slices.Delete(t.Details, 0, over)
	}
}

// Told is how work tells what it does.
type Told struct {
	queue *Queue
	task  *task
}

// ID is the task's id.
func (t *Told) ID() string { return t.task.ID }

// Say adds a line to the task's details and to the log. It must not hold names of patients.
func (t *Told) Say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	t.queue.o.Log.Info().Str("task", t.task.ID).Str("kind", t.queue.o.Name).Msg(line)
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.task.say(line)
	t.queue.saveSometimes()
}

// Progress says how far the task has come.
func (t *Told) Progress(p *api.Object) {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.task.Progress = p
	t.queue.saveSometimes()
}

// record is a task as it is written down.
type record struct {
	ID       string         `json:"id"`
	Status   api.TaskStatus `json:"status"`
	Request  *api.Object    `json:"request"`
	Start    time.Time      `json:"start"`
	End      time.Time      `json:"end,omitzero"`
	Progress *api.Object    `json:"progress,omitempty"`
	Details  []string       `json:"details"`
}

// saveSometimes is save, but not for every line. It is called with mu held.
func (q *Queue) saveSometimes() {
	if time.Since(q.saved) >= savedEvery {
		q.save()
	}
}

// save writes all tasks down. A failure is logged: the tasks themselves are not worse for it. It is called with mu held.
func (q *Queue) save() {
	if q.o.File == "" {
		return
	}
	q.saved = time.Now()
	records := make([]record, len(q.tasks))
	for i, t := range q.tasks {
		records[i] = record{t.ID, t.Status, t.Request, t.Start, t.End, t.Progress, t.Details}
	}
	err := atomicfile.Write(q.o.File, func(w io.Writer) error { return json.NewEncoder(w).Encode(records) })
	if err != nil {
		q.o.Log.Error().Err(err).Str("kind", q.o.Name).Msg("writing down the tasks")
	}
}

// maxTasksFile bounds what is read back.
const maxTasksFile = 16 << 20

func (q *Queue) load() error {
	if q.o.File == "" {
		return nil
	}
	f, err := os.Open(q.o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	var records []record
	if err := json.NewDecoder(io.LimitReader(f, maxTasksFile)).Decode(&records); err != nil {
		// Nothing but a list of what once ran is lost, which must not keep the server from starting.
		q.o.Log.Error().Err(err).Str("file", q.o.File).Msg("the list of tasks cannot be read and begins anew")
		return os.Rename(q.o.File, q.o.File+".damaged")
	}
	for _, r := range records {
		t := &task{Task: api.Task{ID: r.ID, Status: r.Status, Request: r.Request, Start: r.Start, End: r.End, Progress: r.Progress, Details: r.Details}, done: make(chan struct{})}
		if !r.End.IsZero() {
			close(t.done)
		}
		q.tasks = append(q.tasks, t)
	}
	return nil
}
