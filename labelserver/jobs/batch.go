package jobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Inferrer is what batch inference needs of the annotation service.
type Inferrer interface {
	Models() []annotation.Model
	Infer(ctx context.Context, req *annotation.Request) (*annotation.Reply, error)
}

// Batch makes tasks that let a model answer many images and keep its answers as labels.
type Batch struct {
	*Data
	Service Inferrer
	// Device is what models run on, for the request's record.
	Device string
	// Memory is what the images under way may take together.
	Memory int64
}

// Which images a request means.
const (
	imagesAll       = "all"
	imagesLabeled   = "labeled"
	imagesUnlabeled = "unlabeled"
)

// Images lists the words for images, in the order of the protocol's messages.
func (*Batch) Images() []string { return []string{imagesAll, imagesLabeled, imagesUnlabeled} }

// drawnFor are the types of models that answer what somebody draws: without it their answer is nothing.
var drawnFor = []string{"scribbles", "deepgrow", "deepedit"}

// Offers implements Starter.
func (b *Batch) Offers() []Offer {
	var all []Offer
	for _, m := range b.Service.Models() {
		if !slices.Contains(drawnFor, m.Type) {
			all = append(all, Offer{Name: m.Name, Description: m.Description})
		}
	}
	return all
}

// order is a request understood.
type order struct {
	model   string
	which   string   // one of Images, or "" when ids are given
	ids     []string // of these images
	tag     string
	workers int
	most    int // images, 0 for all
	params  *api.Object
}

// Prepare implements Starter. A request without any parameter means all images.
func (b *Batch) Prepare(name string, params *api.Object) (*api.Object, Work, error) {
	if err := b.answersAlone(name); err != nil {
		return nil, nil, err
	}
	o := &option{params: params}
	job := order{model: name, which: imagesAll, params: params.Clone()}
	job.workers = o.whole("max_workers", 1, 0, 256, "a whole number from 0 (as many as fit) to 256")
	job.most = o.whole("max_batch_size", 0, 0, 1<<31, "a whole number from 0 (no limit) on")
	job.tag = o.text("label_tag", datastore.TagOriginal)
	job.which, job.ids = b.images(o)
	if o.err == nil && datastore.CheckTag(job.tag) != nil {
		o.refuse("label_tag", job.tag, "a name without separators")
	}
	if o.err != nil {
		return nil, nil, o.err
	}
	if job.tag == datastore.TagFinal {
		return nil, nil, invalid("label_tag is final: answers of a model are kept beside what people have submitted, not in its place; original is usual")
	}
	return b.recorded(job, params), func(ctx context.Context, told *Told) (*api.Object, error) { return b.run(ctx, job, told) }, nil
}

func (b *Batch) answersAlone(name string) error {
	for _, m := range b.Service.Models() {
		if m.Name == name && slices.Contains(drawnFor, m.Type) {
			return invalid("model %s is of type %s and answers what somebody draws: batch inference wants one that answers the image alone", name, m.Type)
		}
		if m.Name == name {
			return nil
		}
	}
	return notOffered("model", name, b.Offers())
}

// images reads which images are meant: a word, or a list of ids.
func (b *Batch) images(o *option) (which string, ids []string) {
	v, there := o.params.Get("images")
	switch v := v.(type) {
	case string:
		if slices.Contains(b.Images(), v) {
			return v, nil
		}
	case []any:
		for _, item := range v {
			id, ok := item.(string)
			if !ok || datastore.CheckID(id) != nil {
				o.refuse("images", v, "a list of ids of images")
				return "", nil
			}
			ids = append(ids, id)
		}
		return "", ids
	}
	if there && v != nil {
		o.refuse("images", v, "all, labeled, unlabeled or a list of ids of images")
	}
	return imagesAll, nil
}

// recorded is the request as it is kept. A body replaces the incumbent's default one, it is not merged into it.
func (b *Batch) recorded(job order, params *api.Object) *api.Object {
	given := params.Clone()
	given.Delete("images")
	if given.Len() == 0 {
		given = api.NewObject("device", b.Device, "multi_gpu", false, "gpus", imagesAll, "logging", "WARNING", "save_label", true,
			"label_tag", job.tag, "max_workers", job.workers, "max_batch_size", job.most)
	}
	given.Set("save_label", true)
	request := api.NewObject("model", job.model, "images", any(job.which))
	if job.ids != nil {
		request.Set("images", job.ids)
	}
	request.Merge(given)
	return request
}

// items finds the images, in order of ids.
func (b *Batch) items(ctx context.Context, job order) ([]datastore.Item, error) {
	var items []datastore.Item
	var err error
	switch {
	case job.ids != nil:
		for _, id := range job.ids {
			item, err := b.Store.Image(ctx, id)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
	case job.which == imagesUnlabeled:
		items, err = b.Store.Unlabelled(ctx)
	case job.which == imagesLabeled:
		pairs, failed := b.Store.Labelled(ctx)
		err = failed
		for _, p := range pairs {
			items = append(items, p.Image)
		}
	default:
		items, err = b.Store.Images(ctx)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(items, func(x, y datastore.Item) int { return strings.Compare(x.ID, y.ID) })
	if job.most > 0 && len(items) > job.most {
		items = items[:job.most]
	}
	return items, nil
}

// run answers the images, several at once where that was asked for and memory allows. What is done when it is stopped stays.
func (b *Batch) run(ctx context.Context, job order, told *Told) (*api.Object, error) {
	items, err := b.items(ctx, job)
	if err != nil {
		return nil, err
	}
	workers := job.workers
	if workers == 0 {
		workers = runtime.NumCPU()
	}
	workers = min(workers, runtime.NumCPU(), max(len(items), 1))
	told.Say("%d images, %d at once", len(items), workers)
	room := newRoom(b.Memory)
	results, failed := make([]*api.Object, len(items)), make([]error, len(items))
	next := make(chan int)
	var group sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range workers {
		group.Go(func() {
			for i := range next {
				results[i], failed[i] = b.answer(ctx, job, items[i], room, told.ID())
				mu.Lock()
				done++
				told.Progress(api.NewObject("image", done, "images", len(items), "percent", 100*done/len(items)))
				mu.Unlock()
				if failed[i] != nil && ctx.Err() == nil {
					told.Say("image %s: %v", items[i].ID, failed[i])
				}
			}
		})
	}
	for i := range items {
		if ctx.Err() == nil {
			next <- i
		}
	}
	close(next)
	group.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	all := &api.Object{}
	for i, item := range items {
		if failed[i] == nil {
			all.Set(item.ID, results[i])
		}
	}
	told.Say("%d of %d images have a label under the tag %s", all.Len(), len(items), job.tag)
	if all.Len() == 0 && len(items) > 0 {
		return nil, fmt.Errorf("none of %d images could be answered: %w", len(items), failed[0])
	}
	return all, nil
}

// answer lets the model answer one image and keeps the label.
func (b *Batch) answer(ctx context.Context, job order, item datastore.Item, room *room, request string) (*api.Object, error) {
	bytesNeeded, err := footprint(item)
	if err != nil {
		return nil, err
	}
	leave, err := room.enter(ctx, bytesNeeded)
	if err != nil {
		return nil, err
	}
	defer leave()
	image, err := annotation.StoredImage(item, func(_ context.Context, name string, r io.Reader) (*volume.Volume, error) {
		return b.Codec.Decode(name, r)
	})
	if err != nil {
		return nil, err
	}
	client, _ := job.params.Text("client_id")
	reply, err := b.Service.Infer(ctx, &annotation.Request{ID: request, Model: job.model, ClientID: client, Params: job.params, Image: image})
	if err != nil {
		return nil, err
	}
	params := reply.Result()
	if reply.Label == nil {
		return nil, fmt.Errorf("model %s gives no label map", job.model)
	}
	if err := b.save(ctx, job, item, reply.Label, params); err != nil {
		return nil, err
	}
	return api.NewObject("label", item.ID, "tag", job.tag, "params", params), nil
}

func (b *Batch) save(ctx context.Context, job order, item datastore.Item, m *volume.LabelMap, params *api.Object) error {
	ext := item.Ext
	for !b.Codec.Writable(ext) && ext != "" {
		ext = api.Ext("x" + strings.TrimPrefix(ext, "."))
	}
	if ext == "" {
		ext = ".nrrd"
	}
	dtype := "uint8"
	if len(m.Labels) > 0 && slices.Max(m.Labels) > 255 {
		dtype = "uint16"
	}
	var file bytes.Buffer
	if err := b.Codec.EncodeLabels("label"+ext, &file, m, dtype, true); err != nil {
		return err
	}
	return b.Store.PutLabel(ctx, item.ID, job.tag, ext, &file, api.NewObject("model", job.model, "params", params))
}

// footprint guesses what answering an image takes: four bytes a voxel, the answer and what is needed between. Of packed files the last
// four bytes say how long the content is, up to 4 GiB (RFC 1952).
func footprint(item datastore.Item) (int64, error) {
	f, err := item.Open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	raw := info.Size()
	if strings.HasSuffix(item.Ext, ".gz") && raw >= 4 {
		raw = max(raw, unpacked(f, raw))
	}
	return 8 * raw, nil
}

func unpacked(f *os.File, size int64) int64 {
	var tail [4]byte
	if _, err := f.ReadAt(tail[:], size-4); err != nil && !errors.Is(err, io.EOF) {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(tail[:]))
}

// room lets work in as long as what it takes fits. What alone is larger than the room is let in alone.
type room struct {
	mu    sync.Mutex
	free  int64
	size  int64
	freed chan struct{}
}

func newRoom(size int64) *room {
	size = max(size, 1)
	return &room{free: size, size: size, freed: make(chan struct{})}
}

func (r *room) enter(ctx context.Context, need int64) (leave func(), err error) {
	need = min(max(need, 1), r.size)
	for {
		r.mu.Lock()
		if r.free >= need {
			r.free -= need
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.free += need
				close(r.freed)
				r.freed = make(chan struct{})
			}, nil
		}
		freed := r.freed
		r.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
