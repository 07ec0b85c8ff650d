package obs

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestAuditChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "audit.jsonl")
	record := func(n int) {
		t.Helper()
		a, err := OpenAudit(path)
		if err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for range n {
			wait.Go(func() {
				if err := a.Record(Event{Event: "Query", Action: "GET /x", Outcome: "success", Image: "case <1>"}); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := a.Record(Event{}); err == nil {
			t.Error("a closed trail takes an event")
		}
	}
	record(5)
	record(7) // goes on where the first ended
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := VerifyAudit(strings.NewReader(string(text))); n != 12 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, forged := range map[string]string{
		"a changed line":      strings.Replace(string(text), "case", "CASE", 1),
		"a missing line":      strings.Join(append(append([]string{}, lines[:4]...), lines[5:]...), ""),
		"lines exchanged":     strings.Join(append([]string{lines[1], lines[0]}, lines[2:]...), ""),
		"a line that is none": string(text) + "{\n",
	} {
		if _, err := VerifyAudit(strings.NewReader(forged)); err == nil {
			t.Errorf("%s is not noticed", name)
		}
	}
	// A line that a crash cut off is shown as what it is, and the next begins anew.
	if err := os.WriteFile(path, text[:len(text)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	record(1)
	text, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := VerifyAudit(strings.NewReader(string(text))); n != 11 || err == nil || !strings.Contains(err.Error(), "line 12") {
		t.Errorf("after a crash: %d events, %v", n, err)
	}
}
