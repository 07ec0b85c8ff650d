package webstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"scrawl/adapters/dicomweb"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Members of infos. Those of images have the names MONAI Label's clients read.
const (
	keySeriesUID = "SeriesInstanceUID"
	keyStudyUID  = "StudyInstanceUID"
	keyPatientID = "PatientID"
	keyModality  = "Modality"
	// keyDismissed lists, in an image's info, segmentations of the archive that were deleted here.
	keyDismissed = "dismissed_segmentations"
)

// listing is what the archive has. It is never changed, only replaced.
type listing struct {
	at     time.Time
	order  []string           // images by study and series
	series map[string]*series // images, and series that were asked for by UID
	segs   map[string][]*segmentation
}

// series is one series of the archive.
type series struct {
	uid, study string
	info       *api.Object
	seen       time.Time
}

// segmentation is a DICOM SEG of the archive.
type segmentation struct {
	series, study, instance string
	refers                  []string  // series it is a segmentation of
	made                    string    // date and time of its content, comparable as text
	segments                []named   // names by number
	sent                    time.Time // when this server sent it, zero for one that was listed
}

// named is a segment as an archive's list has it.
type named struct {
	Number uint16
	Name   string
}

func (s *Store) emptyListing() *listing {
	return &listing{series: map[string]*series{}, segs: map[string][]*segmentation{}}
}

// newest is the latest segmentation of a series that was not dismissed.
func (l *listing) newest(id string, dismissed []string) *segmentation {
	var best *segmentation
	for _, seg := range l.segs[id] {
		if !slices.Contains(dismissed, seg.series) && (best == nil || cmp.Or(cmp.Compare(seg.made, best.made), cmp.Compare(seg.series, best.series)) > 0) {
			best = seg
		}
	}
	return best
}

// segmentation is the one in a series of its own, nil if the archive does not list it.
func (l *listing) segmentation(id, uid string) *segmentation {
	for _, seg := range l.segs[id] {
		if seg.series == uid {
			return seg
		}
	}
	return nil
}

// patience is how long a call waits for the list to be renewed before it takes the old one.
const patience = 300 * time.Millisecond

// current is the list, renewed if it is old and the archive quick. The old one stands in as long as the archive does not answer, and
// only one call in Options.Refresh waits for it.
func (s *Store) current(ctx context.Context) (*listing, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list := s.listing.Load()
	if s.o.Now().Sub(list.at) < s.o.Refresh || !s.isTime() {
		return list, nil
	}
	done := s.fetches.DoChan("listing", func() (any, error) {
		return nil, s.refresh(s.ctx)
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case res := <-done:
		if res.Err != nil && s.ctx.Err() == nil {
			s.o.Log.Warn().Err(res.Err).Msg("the archive's series cannot be listed, the last list is used")
		}
	case <-timer.C:
	}
	return s.listing.Load(), nil
}

// isTime reports whether the last try to renew the list is long enough ago, and counts as one if so.
func (s *Store) isTime() bool {
	s.change.Lock()
	defer s.change.Unlock()
	now := s.o.Now()
	if now.Sub(s.tried) < s.o.Refresh {
		return false
	}
	s.tried = now
	return true
}

// refresh asks the archive for its series and segmentations.
func (s *Store) refresh(ctx context.Context) error {
	next := s.emptyListing()
	next.at = s.o.Now()
	old := s.listing.Load()
	if old.at.IsZero() {
		old.segs = s.rememberedSegmentations()
	}
	for _, filter := range s.o.Search {
		found, err := s.client.SearchSeries(ctx, filter)
		if err != nil {
			return told(err)
		}
		for _, d := range found {
			if one, ok := s.seriesOf(d, old); ok && next.series[one.uid] == nil {
				next.series[one.uid] = one
				next.order = append(next.order, one.uid)
			}
		}
	}
	slices.SortStableFunc(next.order, func(a, b string) int { return next.series[a].compare(next.series[b]) })
	if err := s.listSegmentations(ctx, old, next); err != nil {
		return told(err)
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.keepOwn(next)
	s.listing.Store(next)
	if s.down.Swap(false) {
		signal(s.back)
	}
	return nil
}

// keepOwn carries over segmentations that were sent while the list was made.
func (s *Store) keepOwn(next *listing) {
	for id, segs := range s.listing.Load().segs {
		for _, seg := range segs {
			if seg.sent.After(next.at) && next.segmentation(id, seg.series) == nil {
				next.segs[id] = append(next.segs[id], seg)
			}
		}
	}
}

func (a *series) compare(b *series) int {
	order := 0
	for _, name := range []string{"StudyDate", "StudyTime", keyStudyUID, keySeriesUID} {
		x, _ := a.info.Text(name)
		y, _ := b.info.Text(name)
		order = cmp.Or(order, cmp.Compare(x, y))
	}
	return order
}

// seriesOf reads a search result. Clients read these members as text that is never missing.
func (s *Store) seriesOf(d dicomweb.Dataset, old *listing) (*series, bool) {
	one := &series{uid: d.Text(dicomweb.TagSeriesInstanceUID), study: d.Text(dicomweb.TagStudyInstanceUID), seen: s.o.Now()}
	if dicomweb.CheckUID(one.uid) != nil || dicomweb.CheckUID(one.study) != nil {
		return nil, false
	}
	if before := old.series[one.uid]; before != nil {
		one.seen = before.seen
	}
	one.info = &api.Object{}
	for _, member := range []struct{ name, tag string }{
		{keySeriesUID, dicomweb.TagSeriesInstanceUID}, {"StudyDate", dicomweb.TagStudyDate}, {"StudyTime", dicomweb.TagStudyTime}, {keyModality, dicomweb.TagModality},
		{"RetrieveURL", dicomweb.TagRetrieveURL}, {keyPatientID, dicomweb.TagPatientID}, {keyStudyUID, dicomweb.TagStudyInstanceUID},
	} {
		one.info.Set(member.name, cmp.Or(d.Text(member.tag), "UNK"))
	}
	if d.Text(dicomweb.TagRetrieveURL) == "" {
		one.info.Set("RetrieveURL", s.client.URL()+"/studies/"+one.study+"/series/"+one.uid)
	}
	return one, true
}

// lookUp asks the archive for one series by its UID.
func (s *Store) lookUp(ctx context.Context, id string) (*series, error) {
	found, err := s.client.SearchSeries(ctx, url.Values{keySeriesUID: {id}})
	if err != nil {
		return nil, told(err)
	}
	list := s.listing.Load()
	for _, d := range found {
		if one, ok := s.seriesOf(d, list); ok && one.uid == id { // some archives ignore filters they do not know
			return one, nil
		}
	}
	return nil, notInArchive(id)
}

func notInArchive(id string) error {
	return fmt.Errorf("series %s is not in the archive: %w", id, fs.ErrNotExist)
}

// forget takes a series out of the list that is no longer in the archive.
func (s *Store) forget(id string) {
	s.change.Lock()
	defer s.change.Unlock()
	old := s.listing.Load()
	if old.series[id] == nil {
		return
	}
	next := *old
	next.order = slices.DeleteFunc(slices.Clone(old.order), func(o string) bool { return o == id })
	next.series = map[string]*series{}
	for uid, one := range old.series {
		if uid != id {
			next.series[uid] = one
		}
	}
	s.listing.Store(&next)
}

// listSegmentations finds the archive's segmentations and what each refers to. The attributes of one are read once; one whose
// attributes cannot be read is passed over until the next time.
func (s *Store) listSegmentations(ctx context.Context, old, next *listing) error {
	found, err := s.client.SearchSeries(ctx, url.Values{keyModality: {"SEG"}})
	if err != nil {
		return err
	}
	known := map[string][]*segmentation{}
	for _, segs := range old.segs {
		for _, seg := range segs {
			if !slices.Contains(known[seg.series], seg) {
				known[seg.series] = append(known[seg.series], seg)
			}
		}
	}
	var mu sync.Mutex
	fresh := false
	var group errgroup.Group
	group.SetLimit(4)
	for _, d := range found {
		if d.Text(dicomweb.TagModality) != "SEG" {
			continue
		}
		uid, study := d.Text(dicomweb.TagSeriesInstanceUID), d.Text(dicomweb.TagStudyInstanceUID)
		if segs := known[uid]; segs != nil {
			mu.Lock()
			next.add(segs)
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			instances, err := s.client.SeriesMetadata(ctx, study, uid)
			if errors.Is(err, dicomweb.ErrRefused) || ctx.Err() != nil {
				return err
			}
			if err != nil {
				s.o.Log.Warn().Err(err).Str("series", uid).Msg("a segmentation in the archive cannot be read")
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			fresh = true
			next.add(segmentationsOf(study, uid, instances))
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if fresh {
		s.rememberSegmentations(next)
	}
	return nil
}

func (l *listing) add(segs []*segmentation) {
	for _, seg := range segs {
		for _, id := range seg.refers {
			l.segs[id] = append(l.segs[id], seg)
		}
	}
}

// segmentationsOf reads the segmentations of a series; mostly it is one.
func segmentationsOf(study, uid string, instances []dicomweb.Dataset) []*segmentation {
	var segs []*segmentation
	for _, d := range instances {
		seg := &segmentation{series: uid, study: study, instance: d.Text(dicomweb.TagSOPInstanceUID), made: d.Text(dicomweb.TagContentDate) + d.Text(dicomweb.TagContentTime)}
		if dicomweb.CheckUID(seg.instance) != nil {
			continue
		}
		for _, of := range d.Items(dicomweb.TagReferencedSeries) {
			if id := of.Text(dicomweb.TagSeriesInstanceUID); !slices.Contains(seg.refers, id) {
				seg.refers = append(seg.refers, id)
			}
		}
		for _, item := range d.Items(dicomweb.TagSegments) {
			if number, ok := item.Int(dicomweb.TagSegmentNumber); ok && number > 0 && number <= 1<<16-1 {
				seg.segments = append(seg.segments, named{Number: uint16(number), Name: item.Text(dicomweb.TagSegmentLabel)})
			}
		}
		segs = append(segs, seg)
	}
	return segs
}

// remembered is a segmentation in segmentations.json.
type remembered struct {
	Series, Study, Instance string
	Refers                  []string
	Made                    string
	Segments                []named
}

const segmentationsFile = "segmentations.json"

// rememberSegmentations saves reading thousands of attributes after a restart. Without it they are read again.
func (s *Store) rememberSegmentations(l *listing) {
	var all []remembered
	seen := map[*segmentation]bool{}
	for _, segs := range l.segs {
		for _, seg := range segs {
			if !seen[seg] {
				seen[seg] = true
				all = append(all, remembered{seg.series, seg.study, seg.instance, seg.refers, seg.made, seg.segments})
			}
		}
	}
	text, err := json.Marshal(all)
	if err == nil {
		err = writeFile(filepath.Join(s.dir, segmentationsFile), text)
	}
	if err != nil {
		s.o.Log.Warn().Err(err).Msg("what is known of the archive's segmentations cannot be stored")
	}
}

func (s *Store) rememberedSegmentations() map[string][]*segmentation {
	l := s.emptyListing()
	text, err := os.ReadFile(filepath.Join(s.dir, segmentationsFile))
	var all []remembered
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Log.Warn().Err(err).Msg("what was known of the archive's segmentations cannot be read")
	}
	for _, r := range all {
		l.add([]*segmentation{{series: r.Series, study: r.Study, instance: r.Instance, refers: r.Refers, made: r.Made, segments: r.Segments}})
	}
	return l.segs
}

// writeFile writes a file beside its place and renames it there.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".scrawl-*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// told says of the archive's failures what callers of a datastore test for.
func told(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dicomweb.ErrNotFound):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case errors.Is(err, dicomweb.ErrTooLarge):
		return fmt.Errorf("%w: %w", datastore.ErrTooLarge, err)
	case errors.Is(err, dicomweb.ErrUnavailable), errors.Is(err, dicomweb.ErrRefused), errors.Is(err, dicomweb.ErrProtocol):
		return fmt.Errorf("%w: %w", datastore.ErrUnavailable, err)
	}
	return err
}

func textsOf(info *api.Object, name string) []string {
	v, _ := info.Get(name)
	list, _ := v.([]any)
	var texts []string
	for _, item := range list {
		if text, ok := item.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}
