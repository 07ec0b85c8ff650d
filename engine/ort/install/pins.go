package install

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"

	"scrawl/engine/ort"
)

// client is a package client that the machine may have, and the package it fetches.
type client string

const (
	pip client = "pip"
	npm client = "npm"
)

// pin is a package whose content is known.
type pin struct {
	client   client
	version  string
	gpu      bool
	platform string // GOOS/GOARCH, "" for all that the package serves
	sha256   string
	size     int64 // bytes, for the progress bar; 0 where it is not recorded
}

// DefaultVersion is what is installed when no version is asked for and pip is there.
const DefaultVersion = "1.31.1"

// pins lists the packages that may be installed without a hash of the user's own: wheels for CPython 3.12, from which only
// the library is taken, and the Node package that carries all platforms in one file.
func pins() []pin {
	return []pin{
		{pip, "1.31.1", false, "linux/amd64", "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536", 23760988},
		{pip, "1.31.1", false, "linux/arm64", "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc", 0},
		{pip, "1.31.1", false, "darwin/arm64", "96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c", 0},
		{pip, "1.31.1", false, "windows/amd64", "ae8a9a351efda685cc59a66226cdefaa37a126c1d66872ca23a2de9425326130", 0},
		{pip, "1.31.1", false, "windows/arm64", "fe8b9ac1ae8e894e12c47ee82e4f6dfc1835768133687257866469fda80d0bf1", 0},
		{pip, "1.24.4", false, "linux/amd64", "0d640eb9f3782689b55cfa715094474cd5662f2f137be6a6f847a594b6e9705c", 17244912},
		{pip, "1.24.4", false, "linux/arm64", "1a5c5a544b22f90859c88617ecb30e161ee3349fcc73878854f43d77f00558b5", 0},
		{pip, "1.24.4", false, "darwin/arm64", "cad1c2b3f455c55678ab2a8caa51fb420c25e6e3cf10f4c23653cdabedc8de78", 0},
		{pip, "1.24.4", false, "windows/amd64", "535b29475ca42b593c45fbb2152fbf1cdf3f287315bf650e6a724a0a1d065cdb", 0},
		{pip, "1.24.4", false, "windows/arm64", "e6214096e14b7b52e3bee1903dc12dc7ca09cb65e26664668a4620cc5e6f9a90", 0},
		{pip, "1.26.0", false, "linux/amd64", "9b6dd70599005bd1bf29779f04a91978b92b5e719c11a20068a8f8e535f725b6", 18185439},
		{pip, "1.26.0", false, "linux/arm64", "91f2bb870a4b9224eba0a6728c1fa7a9e552b8e59e1083c51fbbc3d013f2b5c0", 0},
		{pip, "1.26.0", false, "darwin/arm64", "05b028781b322ad74b57ce5b50aa5280bb1fe96ceec334628ade681e0b24c1ac", 0},
		{pip, "1.26.0", false, "windows/amd64", "a26374dc7fbcaae593601086b242120e13f2310558df0991da6dd8b8fac00414", 0},
		{pip, "1.26.0", false, "windows/arm64", "54a8053410fd31fd66469bd754fcfe8a4df9f7eb44756b4b5479bf50c842d948", 0},
		{pip, "1.32.0", false, "linux/amd64", "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8", 27780211},
		{pip, "1.32.0", false, "linux/arm64", "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054", 0},
		{pip, "1.32.0", false, "darwin/arm64", "d52510bbbcc880c13b826f7d75cdf33ac5cf0bb864d960000fc29ce73f0cb83e", 0},
		{pip, "1.32.0", false, "windows/amd64", "efe7456952c243a05a53d5b8732953625144642c2f3989094277f6217f0c0c40", 0},
		{pip, "1.32.0", false, "windows/arm64", "64d394c69d561af3efd4d4f49dcac8f11d0ce135a20701c16d53b74056cd4cf8", 0},
		{pip, "1.31.1", true, "linux/amd64", "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7", 255569273},
		{pip, "1.26.0", true, "linux/amd64", "3c01119ed4d9449d60367fa8ccffcd02bd3fe736754284e4b198d131f54edad6", 276971796},
		{npm, "1.30.0", false, "linux/amd64", nodePackage, 113507888},
		{npm, "1.30.0", false, "linux/arm64", nodePackage, 113507888},
		{npm, "1.30.0", false, "darwin/arm64", nodePackage, 113507888},
	}
}

const nodePackage = "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75"

// packageName is what the client calls the package.
func (p pin) packageName() string {
	switch {
	case p.client == npm:
		return "onnxruntime-node"
	case p.gpu:
		return "onnxruntime-gpu"
	}
	return "onnxruntime"
}

// choose returns the pin for a request by way of the given client. An unpinned version needs a hash from the user.
func choose(c client, r Request, platform string) (pin, error) {
	version := r.Version
	var known []string
	for _, p := range pins() {
		if p.client != c || p.gpu != r.GPU || p.platform != platform {
			continue
		}
		// The first pin of a client is its default.
		if version == "" || p.version == version {
			if r.SHA256 != "" && r.SHA256 != p.sha256 {
				return pin{}, fmt.Errorf("version %s has the pinned sha256 %s, not %s", p.version, p.sha256, r.SHA256)
			}
			return p, nil
		}
		known = append(known, p.version)
	}
	if version != "" && r.SHA256 != "" {
		return pin{client: c, version: version, gpu: r.GPU, platform: platform, sha256: r.SHA256}, nil
	}
	what := "onnx runtime"
	if r.GPU {
		what = "onnx runtime for GPUs"
	}
	if len(known) > 0 {
		slices.SortFunc(known, cmp.Compare[string])
		return pin{}, fmt.Errorf("%s %s by way of %s is not among the versions whose content is known (%v): choose one of them, or give --sha256 too", what, version, c, known)
	}
	return pin{}, fmt.Errorf("%s for %s by way of %s is not known: give --url and --sha256 of a release archive", what, platform, c)
}

// CUDAGeneration tells which major version of CUDA a GPU build of ONNX Runtime needs, by its packages' own requirements.
func CUDAGeneration(v ort.Version) int {
	if v.Less(ort.Version{Major: 1, Minor: 27}) {
		return 12
	}
	return 13
}

func thisPlatform() string { return runtime.GOOS + "/" + runtime.GOARCH }
