package labelserver

import (
	"testing"

	"scrawl/labelserver/config"
)

func TestRuntimeOptions(t *testing.T) {
	o := runtimeOptions(config.Runtime{Device: "cuda:1", Threads: 3, TF32: true, GPUMemory: 1 << 30})
	if o.Device != "cuda:1" || o.Threads != 3 || o.CUDA["use_tf32"] != "1" || o.CUDA["gpu_mem_limit"] != "1073741824" {
		t.Errorf("options %+v", o)
	}
	if o := runtimeOptions(config.Runtime{Device: "cuda"}); len(o.CUDA) != 0 {
		t.Errorf("nothing was asked of CUDA, options %v", o.CUDA)
	}
}
