package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/atomicfile"
	"scrawl/apps/phantom"
	"scrawl/labelserver/config"
)

func newDemoCommand() *cobra.Command {
	var folder, runtime, picture string
	var port int
	c := &cobra.Command{
		Use:   "demo",
		Short: "Start the server with an example image, fetching what it needs",
		Long: `Demo does everything to try Scrawl out: it fetches ONNX Runtime on first use, makes a
folder with an example volume (a synthetic abdomen, no patient's), and serves it with the
default app on this machine.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			library, err := ensureRuntime(cmd.Context(), cmd.ErrOrStderr(), runtime)
			if err != nil {
				return err
			}
			if picture != "" {
				return writePicture(cmd.Context(), library, picture, cmd.ErrOrStderr())
			}
			if folder == "" {
				cache, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("find a folder for the example (or name one with --studies): %w", err)
				}
				folder = filepath.Join(cache, "scrawl", "demo")
			}
			if err := writeExample(folder); err != nil {
				return err
			}
			cfg, err := config.Load("", os.Environ(), map[string]any{"studies": folder, "server.port": port, "server.host": "127.0.0.1", "app": "scribbles"})
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, library, cmd.ErrOrStderr(), func(address, provider string) {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), demoText, address, provider, folder)
			})
		},
	}
	c.Flags().StringVar(&folder, "studies", "", "folder for the example (default: in the user's cache)")
	c.Flags().StringVar(&picture, "picture", "", "write a picture (SVG) of what strokes on the example do, and stop")
	c.Flags().IntVarP(&port, "port", "p", 8000, "port to listen on; 0 picks a free one")
	c.Flags().StringVar(&runtime, "runtime", "", "path of ONNX Runtime's library (default: found, or fetched)")
	return c
}

const demoText = `
Scrawl is ready:  %s   (running on %s)

Open that address in a browser and draw. Or, in 3D Slicer with the extension MONAILabel: open the module "MONAI Label", enter that
address, press the button beside it, then "Next Sample". Choose a segment, draw a few
strokes under "Scribbles" and press "Update".

Images and labels: %s
Stop with Ctrl-C.
`

// exampleName is the file of the example image.
const exampleName = "abdomen_example.nii.gz"

// The example volume: voxels, their spacing in mm, and the seed of its organs.
var (
	exampleSize    = [3]int{192, 160, 48}
	exampleSpacing = [3]float64{2, 2, 5}
)

const exampleSeed = 7

// writeExample makes the example volume unless it is there.
func writeExample(folder string) error {
	name := filepath.Join(folder, exampleName)
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make the example's folder: %w", err)
	}
	v, _ := phantom.Abdomen(exampleSize, exampleSpacing, exampleSeed)
	err := atomicfile.Write(name, func(w io.Writer) error {
		return format.Encode(name, w, v, format.Options{DType: string(volume.Int16), Compress: true})
	})
	if err != nil {
		return fmt.Errorf("write the example volume: %w", err)
	}
	return nil
}
