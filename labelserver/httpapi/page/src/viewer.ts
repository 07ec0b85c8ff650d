// The viewer: NiiVue with strokes and masks in its one drawing layer.
import { DRAG_MODE, NVImage, type Niivue, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";
import { Grid, type Orientation } from "./grid";
import { Slices } from "./slices";
import { type Marks, background, object } from "./strokes";

/** The first value of the drawing layer that stands for a segment; below are nothing and the strokes. */
const firstSegment = 3;
export const maxSegments = 255 - firstSegment;

export type Tool = "object" | "background" | "eraser" | "move";
export type Layout = "all" | "axial" | "coronal" | "sagittal";

/** All planes: the axial one large, the others beside it. */
const allPlanes: Parameters<Niivue["setCustomLayout"]>[0] = [
  { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 0.64, 1] },
  { sliceType: SLICE_TYPE.CORONAL, position: [0.64, 0, 0.36, 0.5] },
  { sliceType: SLICE_TYPE.SAGITTAL, position: [0.64, 0.5, 0.36, 0.5] },
];

const planes: Record<Exclude<Layout, "all">, SLICE_TYPE> = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
};

/** What is shown over the image. */
export interface Layers {
  strokes: Marks;
  /** Number of the segment of each voxel in the viewer's order, 0 for none. */
  segments: Uint8Array;
  /** Colours of the segments 1, 2, … as [red, green, blue]. */
  colours: [number, number, number][];
}

/** An image's lowest and highest intensity, and those between which nearly all voxels lie. */
export interface Intensities {
  lowest: number;
  highest: number;
  robust: [number, number];
}

export class Viewer {
  private readonly nv: Slices;
  /** The value that the drawing has for each voxel before the pen touches it. */
  private shown = new Uint8Array();
  /** Which of those are strokes. */
  private marks: Marks = new Map();
  private layers: Layers | null = null;
  private uncertainty: NVImage | null = null;
  private tool: Tool = "object";
  grid: Grid | null = null;

  /** Called with the voxels over which the pen has gone, and their new values: object, background, or 0 for erased. */
  onStroke: (changes: Marks) => void = () => {};
  /** Called with a text about the place under the cross. */
  onPlace: (text: string) => void = () => {};

  private constructor(private readonly canvas: HTMLCanvasElement) {
    this.nv = new Slices({
      dragAndDropEnabled: false,
      isRadiologicalConvention: true,
      multiplanarShowRender: SHOW_RENDER.NEVER,
      backColor: [0.055, 0.067, 0.082, 1],
      crosshairColor: [0.36, 0.68, 0.72, 0.6],
      crosshairWidth: 0.5,
      dragMode: DRAG_MODE.windowing,
      isNearestInterpolation: false,
      viewModeHotKey: "",
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      loadingText: "",
      logLevel: "error",
      maxDrawUndoBitmaps: 0,
      // Two strokes of a finger in quick succession are two strokes, and a long one is no wish for another window.
      doubleTouchTimeout: 0,
      longTouchTimeout: 2 ** 31 - 1,
    });
    this.nv.drawOpacity = 1;
    // Of some twenty programs for surfaces one is enough: there are none, and each takes time to compile.
    this.nv.meshShaders.length = 1;
    // The history is kept elsewhere, and copies of the whole drawing at each stroke cost time.
    this.nv.drawAddUndoBitmap = () => {};
    this.nv.onDrawingChanged = (action) => {
      if (action === "draw") {
        this.takeDrawing();
      }
    };
    this.nv.onLocationChange = (place) => this.onPlace(placeText(place as Place));
  }

  static async on(canvas: HTMLCanvasElement): Promise<Viewer> {
    const viewer = new Viewer(canvas);
    await viewer.nv.attachToCanvas(canvas, false);
    viewer.setLayout("all");
    return viewer;
  }

  /** Shows an image, given as a NIfTI file, and nothing over it, in the window that is chosen for its intensities. */
  async load(file: ArrayBuffer, window: (i: Intensities) => [number, number]): Promise<Grid> {
    this.nv.setDrawingEnabled(false);
    this.nv.closeDrawing();
    this.uncertainty = null;
    const image = await NVImage.loadFromUrl({ url: "image.nii", name: "image.nii", buffer: file } as Parameters<typeof NVImage.loadFromUrl>[0]);
    const range: [number, number] = [image.robust_min!, image.robust_max!];
    [image.cal_min, image.cal_max] = window({ lowest: image.global_min!, highest: image.global_max!, robust: range });
    this.nv.volumes = [];
    this.nv.addVolume(image);
    const dims = image.dimsRAS!;
    const orientation: Orientation = {
      size: [dims[1]!, dims[2]!, dims[3]!],
      step: image.img2RASstep as [number, number, number],
      start: image.img2RASstart as [number, number, number],
    };
    this.grid = new Grid(file, orientation);
    this.shown = new Uint8Array(this.grid.voxels);
    this.marks = new Map();
    this.layers = null;
    this.nv.createEmptyDrawing();
    this.nv.clickToSegmentGrowingBitmap = null; // a tool that this page does not offer
    this.nv.drawNow();
    return this.grid;
  }

  setRange(range: [number, number]): void {
    const image = this.nv.volumes[0];
    if (image) {
      [image.cal_min, image.cal_max] = range;
      this.nv.updateGLVolume();
    }
  }

  /** The intensities that are shown black and white, null without an image. */
  get range(): [number, number] | null {
    const image = this.nv.volumes[0];
    return image ? [image.cal_min!, image.cal_max!] : null;
  }

  /** The voxel under the cross, along right, anterior, superior. */
  get cross(): number[] {
    return Array.from(this.nv.frac2vox(this.nv.scene.crosshairPos));
  }

  useTool(tool: Tool): void {
    this.tool = tool;
    this.canvas.style.cursor = tool === "move" ? "grab" : "crosshair";
    this.nv.setDrawingEnabled(tool !== "move" && this.layers !== null);
    this.nv.setPenValue({ object, background, eraser: 0, move: 0 }[tool]);
  }

  setBrush(voxels: number): void {
    this.nv.opts.penSize = voxels;
  }

  setLayout(layout: Layout): void {
    if (layout === "all") {
      this.nv.setCustomLayout(allPlanes);
    } else {
      this.nv.clearCustomLayout();
      this.nv.setSliceType(planes[layout]);
    }
  }

  /** Shows strokes and segments. */
  show(layers: Layers, opacity: number): void {
    this.layers = layers;
    this.nv.drawLut = { lut: lutOf(layers.colours, opacity), labels: [] };
    this.nv.refreshColormaps();
    this.paint(layers);
    this.nv.refreshDrawing(true);
    this.useTool(this.tool);
  }

  /** Brings the drawing up to date, and notes which part of it changed. */
  private paint({ strokes, segments }: Layers): void {
    const drawing = this.nv.drawBitmap!;
    const shown = this.shown;
    const { size } = this.grid!.orientation;
    const area = size[0] * size[1];
    const set = (at: number, value: number) => {
      if (shown[at] !== value || drawing[at] !== value) {
        shown[at] = drawing[at] = value;
        this.nv.changed.add([at % size[0], Math.floor((at % area) / size[0]), Math.floor(at / area)], 0, size);
      }
    };
    if (this.marks !== strokes) {
      for (const at of this.marks.keys()) {
        if (!strokes.has(at)) {
          set(at, segmentValue(segments[at]!));
        }
      }
    }
    for (let z = 0, at = 0; z < size[2]; z++) {
      for (let y = 0; y < size[1]; y++) {
        let first = -1;
        let last = -1;
        for (let x = 0; x < size[0]; x++, at++) {
          const segment = segments[at]!;
          const value = segment === 0 ? 0 : segment + firstSegment - 1; // segmentValue, for each of millions of voxels
          const was = shown[at]!;
          if (was !== value && (was === 0 || was >= firstSegment)) {
            shown[at] = drawing[at] = value;
            first = first < 0 ? x : first;
            last = x;
          }
        }
        if (first >= 0) {
          this.nv.changed.add([first, y, z], 0, size);
          this.nv.changed.add([last, y, z], 0, size);
        }
      }
    }
    for (const [at, value] of strokes) {
      set(at, value);
    }
    this.marks = strokes;
  }

  /** Shows how unsure an answer is over the image, or nothing. */
  async showUncertainty(file: ArrayBuffer | null): Promise<void> {
    if (this.uncertainty) {
      this.nv.removeVolume(this.uncertainty);
      this.uncertainty = null;
    }
    if (file) {
      const image = await NVImage.loadFromUrl({ url: "unsure.nii", name: "unsure.nii", buffer: file, colormap: "inferno", opacity: 0.55, cal_min: 20, cal_max: 255 } as Parameters<typeof NVImage.loadFromUrl>[0]);
      this.uncertainty = image;
      this.nv.addVolume(image);
    }
  }

  /** Moves the cross to a slice given in the file's order: axis 0, 1, 2 for i, j, k. */
  goTo(axis: number, slice: number): void {
    const image = this.nv.volumes[0];
    if (!image || !this.grid) {
      return;
    }
    const permuted = image.permRAS!;
    const shownAxis = this.shownAxis(axis);
    const size = this.grid.orientation.size[shownAxis]!;
    const at = permuted[shownAxis]! < 0 ? size - 1 - slice : slice;
    this.nv.scene.crosshairPos[shownAxis] = (at + 0.5) / size;
    this.nv.drawScene();
    this.nv.createOnLocationChange();
  }

  /** Which of right, anterior and superior an axis of the file runs along most. */
  private shownAxis(axis: number): number {
    const permuted = this.nv.volumes[0]!.permRAS!;
    return [0, 1, 2].findIndex((a) => Math.abs(permuted[a]!) === axis + 1);
  }

  /** What the slices across an axis of the file are called. */
  planeName(axis: number): Exclude<Layout, "all"> {
    return (["sagittal", "coronal", "axial"] as const)[this.shownAxis(axis)]!;
  }

  /** Moves the cross by voxels along right, anterior, superior. */
  move(x: number, y: number, z: number): void {
    this.nv.moveCrosshairInVox(x, y, z);
  }

  /** Draws with the tool at the cross, on the axial slice. */
  drawAtCross(): void {
    if (this.tool === "move" || !this.layers) {
      return;
    }
    this.nv.drawPenAxCorSag = SLICE_TYPE.AXIAL;
    const [x, y, z] = this.nv.frac2vox(this.nv.scene.crosshairPos) as unknown as [number, number, number];
    this.nv.drawPt(x, y, z, this.nv.opts.penValue);
    this.nv.drawPenAxCorSag = -1;
    this.takeDrawing();
  }

  /** Where a voxel in the viewer's order lies on the page, in pixels of the window; null when no shown slice holds it. */
  pageOf(voxel: [number, number, number]): { x: number; y: number } | null {
    this.nv.drawNow();
    const at = this.nv.frac2canvasPos(this.nv.vox2frac(voxel as unknown as Parameters<typeof this.nv.vox2frac>[0]));
    if (!at) {
      return null;
    }
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.nv.uiData.dpr || 1;
    return { x: box.left + at[0]! / ratio, y: box.top + at[1]! / ratio };
  }

  /** Reads what NiiVue's pen has drawn: new strokes, or strokes erased. A pen over a segment leaves the segment as it was. */
  private takeDrawing(): void {
    const drawing = this.nv.drawBitmap;
    const { pen } = this.nv;
    if (!drawing || !this.layers || pen.empty) {
      return;
    }
    const { size } = this.grid!.orientation;
    const changes = new Map<number, number>();
    for (let z = pen.low[2]!; z <= pen.high[2]!; z++) {
      for (let y = pen.low[1]!; y <= pen.high[1]!; y++) {
        for (let x = pen.low[0]!; x <= pen.high[0]!; x++) {
          const at = (z * size[1] + y) * size[0] + x;
          const value = drawing[at]!;
          if (value !== this.shown[at]) {
            changes.set(at, value);
            drawing[at] = this.shown[at]!; // until it is shown as what it has become
          }
        }
      }
    }
    for (const corner of [pen.low, pen.high]) {
      this.nv.changed.add(corner, 0, size);
    }
    pen.clear();
    this.onStroke(changes);
  }
}

/** What NiiVue tells of the place under the cross. */
interface Place {
  mm: ArrayLike<number>;
  vox: ArrayLike<number>;
  values: { value: number }[];
}

function placeText(place: Place): string {
  const mm = Array.from(place.mm).slice(0, 3).map((v) => v.toFixed(1));
  const value = place.values[0]?.value;
  return `R ${mm[0]}  A ${mm[1]}  S ${mm[2]} mm${value === undefined ? "" : `   intensity ${Number(value.toPrecision(5))}`}`;
}

/** The drawing's value for a segment. */
function segmentValue(segment: number): number {
  return segment === 0 ? 0 : segment + firstSegment - 1;
}

function lutOf(colours: [number, number, number][], opacity: number): Uint8ClampedArray {
  const lut = new Uint8ClampedArray(256 * 4);
  lut.set([88, 214, 141, 255], 4 * object);
  lut.set([236, 98, 95, 255], 4 * background);
  colours.forEach((rgb, i) => lut.set([...rgb, Math.round(255 * opacity)], 4 * (firstSegment + i)));
  return lut;
}
