// Package ort runs ONNX graphs on ONNX Runtime. It is the only package that touches C memory, and the only one that
// imports the binding (github.com/yalue/onnxruntime_go), whose traps it closes.
//
// # From a file to an answer
//
// [Locate] finds ONNX Runtime's shared library on the machine, [Open] loads it, once per process, [Library.NewSession]
// compiles a model that is given as bytes, and [Session.Run] takes and returns tensors of package tensor. Weights are
// ordinary inputs and outputs of such a run: nothing in a session is ever changed, so one session serves many users at once.
//
// # Memory
//
// Everything that a caller sees is Go memory. Inputs, and the outputs a caller has allocated, are pinned and handed to ONNX
// Runtime as they are: nothing is copied. Outputs that nobody allocated are copied out once. C memory is freed before Run
// returns, whatever happens; a session's own is freed by [Session.Close].
//
// # Devices
//
// A session runs on the CPU or on one CUDA device, and [Session.Provider] tells which. Asking for "cuda" where CUDA cannot be
// used is an error, never a silent change to the CPU; "auto" may fall back, and [Session.Note] then says why. Each run blocks
// one thread of the operating system, so callers put a [Gate] per device before their runs.
package ort

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	binding "github.com/yalue/onnxruntime_go"
)

// ErrClosed is returned by uses of a library or session that has been closed.
var ErrClosed = errors.New("already closed")

// process is the one loaded library. It is package state because the thing it guards is: the binding keeps its environment
// in unguarded package variables, and a second ONNX Runtime in one process would share symbols with the first.
var process struct {
	sync.Mutex
	open *Library
}

// Library is a loaded ONNX Runtime. It is safe for concurrent use.
type Library struct {
	path    string
	version Version

	// Both are guarded by process.Mutex.
	opens    int
	sessions int
}

// Open loads the shared library at path (a file, such as libonnxruntime.so.1.31.1) and prepares it. A process holds one
// library at a time: a further Open of the same file returns the same *Library, to be closed once more; a different file is
// an error. Libraries older than [MinVersion] are refused.
func Open(path string) (*Library, error) {
	file, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("open onnx runtime: %w", err)
	}
	process.Lock()
	defer process.Unlock()
	if l := process.open; l != nil {
		if l.path != file {
			return nil, fmt.Errorf("open onnx runtime %s: this process has already loaded %s, and can hold one library only: close that one first, or start another process", file, l.path)
		}
		l.opens++
		return l, nil
	}
	// A library that is too old writes to standard error and is unloaded before its version can be asked for, so the file
	// is asked first.
	if v, err := FileVersion(file); err == nil && v.Less(MinVersion) {
		return nil, fmt.Errorf("open onnx runtime: %w", &TooOldError{Path: file, Version: v})
	}
	binding.SetSharedLibraryPath(file)
	// Errors come back as values; the log would only repeat them on standard error.
	if err := binding.InitializeEnvironment(binding.WithLogLevelFatal()); err != nil {
		return nil, fmt.Errorf("open onnx runtime %s (version %s or newer, built for this system, is needed): %w", file, MinVersion, err)
	}
	version, err := ParseVersion(binding.GetVersion())
	if err == nil {
		err = shareArena()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open onnx runtime %s: %w", file, err), binding.DestroyEnvironment())
	}
	process.open = &Library{path: file, version: version, opens: 1}
	return process.open, nil
}

// arenaRegion is how many bytes of addresses the arena takes from the system first; each further region is twice as large as the one
// before. Systems back them with memory only where they are written to, and the lowest fitting place is. Pieces that lie in one region
// grow together again when they are free; in regions of their own they would not.
const arenaRegion = 1 << 30

// shareArena gives all sessions one arena for what they need on the CPU while they run. Sessions of their own would each keep
// their largest run's memory for good.
func shareArena() error {
	memory, err := binding.GetMemoryInfo()
	if err != nil {
		return err
	}
	const byDefault, doubling = -1, 0
	arena, err := binding.NewArenaCfg(0, doubling, arenaRegion, byDefault)
	if err != nil {
		return err
	}
	defer arena.Destroy()
	return binding.CreateAndRegisterAllocator(memory, arena)
}

func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("no path given")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// Path returns the file the library was loaded from, absolute and with symbolic links resolved.
func (l *Library) Path() string { return l.path }

// Version returns the version that the loaded library reports.
func (l *Library) Version() Version { return l.version }

// Close undoes one Open. The last one unloads the library, and fails, leaving it loaded, while sessions are open.
func (l *Library) Close() error {
	process.Lock()
	defer process.Unlock()
	if process.open != l {
		return fmt.Errorf("close onnx runtime: %w", ErrClosed)
	}
	if l.opens == 1 && l.sessions > 0 {
		return fmt.Errorf("close onnx runtime: %d sessions are still open: close them first", l.sessions)
	}
	if l.opens--; l.opens > 0 {
		return nil
	}
	process.open = nil
	if err := binding.DestroyEnvironment(); err != nil {
		return fmt.Errorf("close onnx runtime: %w", err)
	}
	return nil
}

// adopt counts a session about to be made, so that the library stays loaded while it lives.
func (l *Library) adopt() error {
	process.Lock()
	defer process.Unlock()
	if process.open != l {
		return fmt.Errorf("onnx runtime library: %w", ErrClosed)
	}
	l.sessions++
	return nil
}

func (l *Library) release() {
	process.Lock()
	defer process.Unlock()
	l.sessions--
}
