package evaluate

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"image/png"
	"math"
	"strconv"
	"strings"
	"testing"

	"scrawl/apps/interact"
)

// report is a measurement of the block with two profiles, two seeds and pictures.
func report(t *testing.T) Report {
	t.Helper()
	c := block(t)
	p := protocol()
	p.Methods, p.Seeds, p.Pictures = profiles(interact.ProfileFrozen, interact.ProfileHindsight), []uint64{1, 2}, 1
	other := c
	other.Target = "another <box>"
	var all []Course
	for _, c := range []Case{c, other} {
		all = append(all, courses(t, p, &stripes{c: c, reach: 6}, c)...)
	}
	return Summarise(Provenance{Scrawl: "v0 commit abc", Model: "m", ModelHash: "ff00", Provider: "CPU", Threads: 1}, p, all)
}

func records(t *testing.T, text []byte) []map[string]string {
	t.Helper()
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []map[string]string
	for _, row := range all[1:] {
		m := map[string]string{}
		for i, name := range all[0] {
			m[name] = row[i]
		}
		out = append(out, m)
	}
	return out
}

func TestPointsHaveARowForEveryInteraction(t *testing.T) {
	r := report(t)
	var b bytes.Buffer
	if err := r.WritePoints(&b); err != nil {
		t.Fatal(err)
	}
	rows := records(t, b.Bytes())
	// 2 cases, 2 profiles, 2 seeds, 2 slices, 0…3 interactions.
	if len(rows) != 2*2*2*2*4 {
		t.Fatalf("%d rows, want 64", len(rows))
	}
	for _, row := range rows {
		if row["interaction"] == "3" && (row["strokes"] != "0" || row["dice"] != "1" || row["machine_seconds"] != "0") {
			t.Errorf("the annotator was done after two interactions, yet: %v", row)
		}
		if row["interaction"] == "0" && row["strokes"] != "0" {
			t.Errorf("strokes before the first interaction: %v", row)
		}
		if row["model_sha256"] != "ff00" || row["scrawl"] != "v0 commit abc" || row["untouched"] != "" {
			t.Errorf("row %v", row)
		}
		if d, err := strconv.ParseFloat(row["dice"], 64); err != nil || d < 0 || d > 1 {
			t.Errorf("Dice %q", row["dice"])
		}
	}
}

func TestSummaryOfGroups(t *testing.T) {
	r := report(t)
	// For each profile two cases, their mean and two halves; differences for the mean and both halves.
	if len(r.Rows) != 10 || len(r.Differences) != 3 {
		t.Fatalf("%d rows and %d differences, want 10 and 3", len(r.Rows), len(r.Differences))
	}
	for _, row := range r.Rows {
		if row.Dice[0] != 0 || row.Dice[3] != 1 || row.To != [3]float64{2, 2, 2} || row.Untouched != 0 {
			t.Errorf("%s, %s: Dice %v, to goals %v, untouched %v", row.Name, row.Method, row.Dice, row.To, row.Untouched)
		}
		// Two slices with two interactions of one stroke each: 4 looks and 4 strokes.
		if want := (4*6 + 4*3) / 60.0; math.Abs(row.UserMinutes-row.MachineMinutes-want) > 1e-9 {
			t.Errorf("%s: %v minutes without the machine's, want %v", row.Name, row.UserMinutes-row.MachineMinutes, want)
		}
		if learned := row.LearnedShare; row.Method == "frozen" && learned != 0 || row.Method != "frozen" && learned != 0.5 {
			t.Errorf("%s, %s: %v of the slices learned from", row.Name, row.Method, learned)
		}
	}
	if d := r.Differences[0]; d.Name != "mean" || d.Dice[3].Mean != 0 || d.Dice[3].Cases != 2 || !d.Dice[3].AtLeast() {
		t.Errorf("difference of equal methods: %+v", d)
	}
	var b bytes.Buffer
	if err := r.WriteSummary(&b); err != nil {
		t.Fatal(err)
	}
	rows := records(t, b.Bytes())
	if len(rows) != 10 || rows[0]["name"] != "block another <box>" || rows[0]["dice_3"] != "1" || rows[4]["group"] != "true" {
		t.Errorf("summary: %v", rows)
	}
}

func TestTableIsAligned(t *testing.T) {
	var b bytes.Buffer
	if err := report(t).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"v0 commit abc", "SHA-256 ff00", "seeds 1 2", "untouched", "to 0.95", "hindsight", "+0.0 [+0.0, +0.0] ≥"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestPageHoldsEverything(t *testing.T) {
	r := report(t)
	var b bytes.Buffer
	if err := r.WritePage(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for want, times := range map[string]int{
		"<table>": 5, "<svg": 5 + 2, "<polyline": 10, // two of them for the legend
		// One slice of each of four courses, before and after 1 and 3 interactions.
		"data:image/png;base64,": 12,
	} {
		if got := strings.Count(text, want); got != times {
			t.Errorf("%d times %q, want %d", got, want, times)
		}
	}
	if strings.Contains(text, "another <box>") {
		t.Error("a name went into the page without being escaped")
	}
	for _, c := range r.Courses {
		for _, p := range c.Pictures {
			if _, err := png.Decode(bytes.NewReader(p.PNG)); err != nil {
				t.Errorf("picture of slice %d: %v", p.Slice, err)
			}
		}
	}
}

func TestProvenance(t *testing.T) {
	var b bytes.Buffer
	if err := report(t).WriteProvenance(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Provenance Provenance
		Protocol   Protocol
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got.Provenance.ModelHash != "ff00" || got.Protocol.Interactions != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}
