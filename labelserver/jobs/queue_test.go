package jobs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"scrawl/labelserver/api"
	"scrawl/labelserver/jobs"
)

func open(t *testing.T, file string, resume func(*api.Object) jobs.Work) *jobs.Queue {
	t.Helper()
	q, err := jobs.OpenQueue(jobs.QueueOptions{Name: "Train", File: file, Resume: resume, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	q.Start()
	return q
}

func request(name string) *api.Object { return api.NewObject("model", name) }

// waits works until it is stopped.
func waits(ctx context.Context, told *jobs.Told) (*api.Object, error) {
	told.Say("waiting")
	told.Progress(api.NewObject("percent", 7))
	<-ctx.Done()
	return nil, ctx.Err()
}

// takes works for a while.
func takes(d time.Duration, result string) jobs.Work {
	return func(ctx context.Context, _ *jobs.Told) (*api.Object, error) {
		select {
		case <-time.After(d):
			return api.NewObject("result", result), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func submit(t *testing.T, q *jobs.Queue, name string, work jobs.Work, enqueue bool) *api.Task {
	t.Helper()
	task, err := q.Submit(request(name), work, enqueue)
	if err != nil {
		t.Fatal(err)
	}
	if task.Status != api.TaskSubmitted {
		t.Errorf("submitted as %s", task.Status)
	}
	return task
}

func statuses(q *jobs.Queue) []api.TaskStatus {
	var all []api.TaskStatus
	for _, t := range q.All() {
		all = append(all, t.Status)
	}
	return all
}

func TestQueueRunsOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, "", nil)
		if _, ok := q.Newest(); ok {
			t.Error("an empty queue has a newest task")
		}
		first := submit(t, q, "a", takes(time.Hour, "a"), false)
		if _, err := q.Submit(request("b"), waits, false); !errors.Is(err, jobs.ErrRunning) {
			t.Errorf("a second task: %v, want ErrRunning", err)
		}
		if _, err := q.Run(t.Context(), request("b"), waits, false); !errors.Is(err, jobs.ErrRunning) {
			t.Errorf("a second task to wait for: %v, want ErrRunning", err)
		}
		second := submit(t, q, "b", waits, true)
		running, ok := q.Running()
		if !ok || running.ID != first.ID {
			t.Error("the first task does not run")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := statuses(q); !slices.Equal(got, []api.TaskStatus{api.TaskDone, api.TaskRunning}) {
			t.Errorf("after an hour: %v", got)
		}
		stopped, ok := q.Stop(t.Context())
		if !ok || stopped.ID != second.ID || stopped.Status != api.TaskStopped || stopped.End.IsZero() || len(stopped.Details) != 2 {
			t.Errorf("stopped %+v", stopped)
		}
		if _, ok := q.Stop(t.Context()); ok {
			t.Error("stopped a task when none ran")
		}
		result, err := q.Run(t.Context(), request("c"), takes(time.Second, "c"), false)
		if got, _ := result.Text("result"); err != nil || got != "c" {
			t.Errorf("result %v, %v", result, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Run(ctx, request("d"), waits, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a client that left: %v", err)
		}
		// One that left before its turn holds nobody up.
		submit(t, q, "e", takes(time.Minute, "e"), false)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Run(ctx, request("f"), waits, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a client that left the queue: %v", err)
		}
		time.Sleep(time.Hour)
		if _, ok := q.Running(); ok {
			t.Error("a task runs that nobody waits for")
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if _, err := q.Submit(request("g"), waits, false); err == nil {
			t.Error("a closed queue took a task")
		}
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, "", nil)
		defer func() { _ = q.Close() }()
		for _, work := range []jobs.Work{
			func(context.Context, *jobs.Told) (*api.Object, error) { return nil, errors.New("the disk is full") },
			func(context.Context, *jobs.Told) (*api.Object, error) { panic("the disk is full") },
		} {
			if _, err := q.Run(t.Context(), request("a"), work, false); err == nil || !strings.Contains(err.Error(), "the disk is full") {
				t.Errorf("%v", err)
			}
			if task, _ := q.Newest(); task.Status != api.TaskError || !strings.Contains(strings.Join(task.Details, "\n"), "the disk is full") {
				t.Errorf("%+v", task)
			}
		}
	})
}

// The list of tasks and the lines of each stay bounded.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, "", nil)
		defer func() { _ = q.Close() }()
		talks := func(_ context.Context, told *jobs.Told) (*api.Object, error) {
			for range 1000 {
				told.Say("%s", "a line")
			}
			return &api.Object{}, nil
		}
		for range 70 {
			if _, err := q.Run(t.Context(), request("a"), talks, false); err != nil {
				t.Fatal(err)
			}
		}
		all := q.All()
		if len(all) != 50 || len(all[0].Details) != 200 {
			t.Errorf("%d tasks with %d lines", len(all), len(all[0].Details))
		}
	})
}

// Only so many tasks may wait, and of the same request one at a time where one is enough.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := open(t, "", nil)
		defer func() { _ = q.Close() }()
		for range 3 { // the first runs, the second waits, the third is the second again
			if err := q.SubmitUnlessWaiting(request("a"), waits); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(q.All()); n != 2 {
			t.Errorf("%d tasks, want 2", n)
		}
		for range 99 {
			if _, err := q.Submit(request("b"), waits, true); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := q.Submit(request("b"), waits, true); !errors.Is(err, jobs.ErrFull) {
			t.Errorf("one more: %v, want ErrFull", err)
		}
		if _, err := q.Run(t.Context(), request("b"), waits, true); !errors.Is(err, jobs.ErrFull) {
			t.Errorf("one more to wait for: %v, want ErrFull", err)
		}
	})
}

// What a restart finds running or waiting is taken up again where that is known how, and told to be interrupted otherwise.
func TestRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "train.json")
	q := open(t, file, nil)
	done := submit(t, q, "done", takes(0, "done"), false)
	waitFor(t, func() bool { _, running := q.Running(); return !running })
	running := submit(t, q, "running", waits, false)
	waiting := submit(t, q, "waiting", waits, true)
	waitFor(t, func() bool { task, _ := q.Running(); return task != nil && task.Progress != nil })
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}

	var resumed []string
	q = open(t, file, func(r *api.Object) jobs.Work {
		name, _ := r.Text("model")
		resumed = append(resumed, name)
		return takes(0, name)
	})
	waitFor(t, func() bool { _, running := q.Running(); return !running })
	if !slices.Equal(resumed, []string{"running", "waiting"}) {
		t.Errorf("taken up again: %v", resumed)
	}
	for i, id := range []string{done.ID, running.ID, waiting.ID} {
		if task := q.All()[i]; task.ID != id || task.Status != api.TaskDone {
			t.Errorf("task %d is %s, %s", i, task.ID, task.Status)
		}
	}
	// Crash: the file still says that it runs, and nobody knows how to go on.
	submit(t, q, "crashed", waits, false)
	crashed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, crashed, 0o600); err != nil {
		t.Fatal(err)
	}
	q = open(t, file, nil)
	task, _ := q.Newest()
	if task.Status != api.TaskError || !strings.Contains(strings.Join(task.Details, "\n"), "interrupted") || task.End.IsZero() {
		t.Errorf("after a crash: %+v", task)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}

	// A file that cannot be read is put aside and does not keep the server from starting.
	if err := os.WriteFile(file, []byte("{not JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	q = open(t, file, nil)
	if _, ok := q.Newest(); ok {
		t.Error("tasks were read out of a damaged file")
	}
	if _, err := os.Stat(file + ".damaged"); err != nil {
		t.Error(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("not in time")
}
