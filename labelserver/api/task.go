package api

import "time"

// TaskStatus is the state of a background task.
type TaskStatus string

// The states a task goes through; the last three are final.
const (
	TaskSubmitted TaskStatus = "SUBMITTED"
	TaskRunning   TaskStatus = "RUNNING"
	TaskDone      TaskStatus = "DONE"
	TaskError     TaskStatus = "ERROR"
	TaskStopped   TaskStatus = "STOPPED"
)

// Task is a background task (training, scoring, batch inference) as clients see it.
type Task struct {
	ID      string
	Status  TaskStatus
	Request *Object
	Start   time.Time
	// End is zero until the task ends.
	End time.Time
	// Details are the last lines of the task's log.
	Details []string
	// Progress says how far the task has come, such as the epoch and the number of epochs; nil when nothing is known.
	Progress *Object
}

const (
	taskTime    = "2006-01-02 15:04:05"
	taskDetails = 20
)

// Object is the task's wire form. From RUNNING on it always has details, at least one line: Slicer reads the last of them
// after stopping a task, and an empty list there is an exception.
func (t *Task) Object() *Object {
	request := t.Request
	if request == nil {
		request = &Object{}
	}
	o := NewObject("id", t.ID, "status", string(t.Status), "request", request, "start_ts", t.Start.Local().Format(taskTime))
	if t.Status != TaskSubmitted {
		lines := t.Details
		if len(lines) == 0 {
			lines = []string{"no output yet"}
		}
		o.Set("details", lines[max(0, len(lines)-taskDetails):])
	}
	if t.Progress != nil {
		o.Set("progress", t.Progress)
	}
	if !t.End.IsZero() {
		o.Set("end_ts", t.End.Local().Format(taskTime))
	}
	return o
}
