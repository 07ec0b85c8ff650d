package webstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/dicomweb"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// outboxDir holds segmentations that the archive has not taken yet. One is sent again as it is, with its UIDs, so that an archive
// that took it without our learning of it has it once.
const outboxDir = "outbox"

func (s *Store) outboxPath(id string) string { return filepath.Join(s.dir, outboxDir, id+".dcm") }

// deliver sends the final label of an image that is pending. The caller holds the image's delivery lock.
func (s *Store) deliver(ctx context.Context, of *series) error {
	encoded, err := s.segmentation(ctx, of)
	if err == nil && encoded == nil {
		return s.note(ctx, of.uid, stateEmpty, "no voxel has a label", Encoded{})
	}
	if err == nil {
		err = s.send(ctx, of)
	}
	if encoded == nil {
		encoded = &Encoded{}
	}
	switch {
	case err == nil:
		s.o.Log.Info().Str("series", of.uid).Str("segmentation", encoded.Series).Msg("label stored in the archive")
		s.addOwn(of, *encoded)
		return errors.Join(s.note(ctx, of.uid, stateStored, "", *encoded), os.Remove(s.outboxPath(of.uid)))
	case ctx.Err() != nil && s.ctx.Err() == nil, passing(err):
		s.o.Log.Warn().Err(err).Str("series", of.uid).Msg("label cannot be stored in the archive now, it is kept and sent again")
		s.down.Store(true)
		signal(s.wake)
		return s.note(context.WithoutCancel(ctx), of.uid, statePending, err.Error(), *encoded)
	case s.ctx.Err() != nil:
		return nil // sent after the next start
	}
	s.o.Log.Error().Err(err).Str("series", of.uid).Msg("label is not taken by the archive, it is kept")
	noted := s.note(ctx, of.uid, stateRefused, err.Error(), *encoded)
	return errors.Join(fmt.Errorf("the label is stored on this server, but not in the archive: %w: %w", datastore.ErrUndelivered, err), noted)
}

// passing reports whether an error may be gone at the next try. Credentials are not: somebody has to mend them.
func passing(err error) bool {
	return errors.Is(err, datastore.ErrUnavailable) && !errors.Is(err, dicomweb.ErrRefused) && !errors.Is(err, dicomweb.ErrProtocol)
}

// note writes into the label's info what became of it.
func (s *Store) note(ctx context.Context, id, state, reason string, e Encoded) error {
	archive := api.NewObject("state", state)
	if reason != "" {
		archive.Set("reason", reason)
	}
	info := &api.Object{}
	if e.Series != "" {
		info.Set(keySeriesUID, e.Series)
		archive.Set("instance", e.Instance)
		archive.Set("made", e.Made)
	}
	info.Set(keyArchive, archive)
	return s.local.UpdateLabelInfo(ctx, id, datastore.TagFinal, info)
}

// segmentation makes the segmentation of an image's final label in the outbox, unless it is there. It is nil for an empty label.
func (s *Store) segmentation(ctx context.Context, of *series) (*Encoded, error) {
	item, err := s.local.Label(ctx, of.uid, datastore.TagFinal)
	if err != nil {
		return nil, err
	}
	if e, ok := s.inOutbox(of.uid, item.Info); ok {
		return e, nil
	}
	f, err := item.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	m, own, err := s.readLabel(ctx, of, item.Ext, f)
	if err != nil {
		return nil, err
	}
	segments := segmentsOf(m, item.Info, own, s.o.Labels)
	if len(segments) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	e, err := s.encode(ctx, &b, of, m, segments)
	if err != nil {
		return nil, err
	}
	if err := writeFile(s.outboxPath(of.uid), b.Bytes()); err != nil {
		return nil, err
	}
	return e, s.note(ctx, of.uid, statePending, "", *e) // with its UIDs, under which it is found again
}

// inOutbox is the segmentation that was made of this very label before. A new label's info does not name one yet.
func (s *Store) inOutbox(id string, info *api.Object) (*Encoded, bool) {
	if _, err := os.Stat(s.outboxPath(id)); err != nil {
		return nil, false
	}
	archive, _ := info.Object(keyArchive)
	e := &Encoded{}
	e.Series, _ = info.Text(keySeriesUID)
	e.Instance, _ = archive.Text("instance")
	e.Made, _ = archive.Text("made")
	return e, e.Series != "" && e.Instance != ""
}

func (s *Store) encode(ctx context.Context, w io.Writer, of *series, m *volume.LabelMap, segments []dicomseg.Segment) (*Encoded, error) {
	if err := s.ensure(ctx, of); err != nil {
		return nil, err
	}
	release, err := s.reading(of)
	if err != nil {
		return nil, s.leaves(of)
	}
	defer release()
	e, err := s.o.Imaging.Encode(ctx, w, s.cache.instances(of.uid), m, segments)
	if err != nil {
		return nil, fmt.Errorf("making a segmentation of series %s: %w", of.uid, err)
	}
	return &e, nil
}

// send stores what is in the outbox in the archive.
func (s *Store) send(ctx context.Context, of *series) error {
	path := s.outboxPath(of.uid)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	report, err := s.client.Store(ctx, dicomweb.Instance{Size: info.Size(), Open: func() (io.ReadCloser, error) { return os.Open(path) }})
	if err != nil {
		return told(err)
	}
	for _, stored := range report.Stored {
		if stored.Warning != 0 {
			s.o.Log.Warn().Str("series", of.uid).Str("instance", stored.SOPInstanceUID).Int("warning", stored.Warning).Msg("the archive changed a segmentation when it stored it")
		}
	}
	return told(report.Err())
}

// addOwn puts a segmentation that was just sent into the list.
func (s *Store) addOwn(of *series, e Encoded) {
	s.change.Lock()
	defer s.change.Unlock()
	next := *s.listing.Load()
	segs := map[string][]*segmentation{}
	for id, list := range next.segs {
		segs[id] = list
	}
	own := &segmentation{series: e.Series, study: of.study, instance: e.Instance, refers: []string{of.uid}, made: e.Made, sent: s.o.Now()}
	segs[of.uid] = append(segs[of.uid][:len(segs[of.uid]):len(segs[of.uid])], own)
	next.segs = segs
	s.listing.Store(&next)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is awake already
	}
}

// maxRedeliver bounds the growing pause between deliveries.
const maxRedeliver = 10 * time.Minute

// deliverLater sends pending labels again until the store is closed: after a pause that grows, and as soon as the archive answers
// again. What was refused is tried once after the start: somebody may have
// mended what was wrong.
func (s *Store) deliverLater() {
	pause := s.o.Redeliver
	left := s.deliverPending(true)
	for {
		var again <-chan time.Time
		if left > 0 {
			again = time.After(pause)
			pause = min(2*pause, maxRedeliver)
		} else {
			pause = s.o.Redeliver
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
			left = max(left, 1)
			continue
		case <-s.back:
		case <-again:
		}
		left = s.deliverPending(false)
	}
}

// deliverPending sends what is pending and returns how many labels still are.
func (s *Store) deliverPending(refused bool) (left int) {
	images, err := s.local.Images(s.ctx)
	if err != nil {
		return 0
	}
	for _, image := range images {
		if s.ctx.Err() != nil {
			return left
		}
		if !s.isPending(image.ID, refused) {
			continue
		}
		_, of, err := s.find(s.ctx, image.ID)
		if errors.Is(err, fs.ErrNotExist) {
			s.o.Log.Warn().Str("series", image.ID).Msg("a label waits for a series that is no longer in the archive")
			continue
		}
		if err == nil {
			err = s.deliverAgain(of)
		}
		if err != nil && !errors.Is(err, datastore.ErrUndelivered) || s.isPending(image.ID, false) {
			left++
		}
	}
	return left
}

func (s *Store) deliverAgain(of *series) error {
	defer s.delivery.Lock(of.uid)()
	if !s.isPending(of.uid, true) {
		return nil // sent or deleted meanwhile
	}
	return s.deliver(s.ctx, of)
}

func (s *Store) isPending(id string, refused bool) bool {
	label, err := s.local.Label(s.ctx, id, datastore.TagFinal)
	if err != nil {
		return false
	}
	state, _ := stateOf(label.Info)
	return state == statePending || (refused && state == stateRefused)
}
