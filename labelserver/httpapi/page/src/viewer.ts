// The viewer: NiiVue with strokes and masks in its one drawing layer.
import { DRAG_MODE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";
import { Grid, type Orientation } from "./grid";
import { background, object } from "./strokes";

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

/** What is shown over the image. All arrays are in the viewer's order of voxels. */
export interface Layers {
  strokes: Uint8Array;
  /** Number of the segment of each voxel, 0 for none. */
  segments: Uint8Array;
  /** Colours of the segments 1, 2, … as [red, green, blue]. */
  colours: [number, number, number][];
}

export class Viewer {
  private readonly nv: Niivue;
  private shown = new Uint8Array();
  private layers: Layers | null = null;
  private uncertainty: NVImage | null = null;
  private tool: Tool = "object";
  grid: Grid | null = null;

  /** Called when a stroke has been drawn or erased: the voxels that changed have their new values in layers.strokes. */
  onStroke: () => void = () => {};
  /** Called with a text about the place under the cross. */
  onPlace: (text: string) => void = () => {};

  private constructor(private readonly canvas: HTMLCanvasElement) {
    this.nv = new Niivue({
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
    });
    this.nv.drawOpacity = 1;
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

  /** Shows an image, given as a NIfTI file, and nothing over it. */
  async load(file: ArrayBuffer): Promise<Grid> {
    this.nv.setDrawingEnabled(false);
    this.nv.closeDrawing();
    this.uncertainty = null;
    const image = await NVImage.loadFromUrl({ url: "image.nii", name: "image.nii", buffer: file } as Parameters<typeof NVImage.loadFromUrl>[0]);
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
    this.nv.createEmptyDrawing();
    this.layers = null;
    return this.grid;
  }

  /** The image's lowest and highest intensity, and those between which nearly all voxels lie. */
  get intensities(): { lowest: number; highest: number; robust: [number, number] } {
    const image = this.nv.volumes[0]!;
    let lowest = Infinity;
    let highest = -Infinity;
    const voxels = image.img!; // NiiVue's own range is that of the middle of the image
    for (let i = 0; i < voxels.length; i++) {
      const v = voxels[i]!;
      lowest = v < lowest ? v : lowest;
      highest = v > highest ? v : highest;
    }
    return { lowest, highest, robust: [image.robust_min ?? lowest, image.robust_max ?? highest] };
  }

  setRange(range: [number, number]): void {
    const image = this.nv.volumes[0];
    if (image) {
      [image.cal_min, image.cal_max] = range;
      this.nv.updateGLVolume();
    }
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

  /** Shows strokes and segments. The viewer keeps the layers and writes strokes into them. */
  show(layers: Layers, opacity: number): void {
    this.layers = layers;
    this.nv.drawLut = { lut: lutOf(layers.colours, opacity), labels: [] };
    const { strokes, segments } = layers;
    for (let i = 0; i < this.shown.length; i++) {
      this.shown[i] = valueOf(strokes[i]!, segments[i]!);
    }
    this.nv.drawBitmap!.set(this.shown);
    this.nv.updateGLVolume(); // colours and drawing
    this.nv.refreshDrawing(true);
    this.useTool(this.tool);
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

  /** Where a voxel in the viewer's order lies on the page, in pixels of the window; null when no shown slice holds it. */
  pageOf(voxel: [number, number, number]): { x: number; y: number } | null {
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
    const drawn = this.nv.drawBitmap;
    if (!drawn || !this.layers) {
      return;
    }
    const { strokes, segments } = this.layers;
    let touched = false;
    let changed = false;
    for (let i = 0; i < drawn.length; i++) {
      const value = drawn[i]!;
      if (value === this.shown[i]) {
        continue;
      }
      touched = true;
      changed ||= strokes[i] !== value;
      strokes[i] = value;
      this.shown[i] = drawn[i] = valueOf(value, segments[i]!);
    }
    if (touched) {
      this.nv.refreshDrawing(true);
    }
    if (changed) {
      this.onStroke();
    }
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

function valueOf(stroke: number, segment: number): number {
  return stroke !== 0 ? stroke : segment !== 0 ? segment + firstSegment - 1 : 0;
}

function lutOf(colours: [number, number, number][], opacity: number): Uint8ClampedArray {
  const lut = new Uint8ClampedArray(256 * 4);
  lut.set([88, 214, 141, 255], 4 * object);
  lut.set([236, 98, 95, 255], 4 * background);
  colours.forEach((rgb, i) => lut.set([...rgb, Math.round(255 * opacity)], 4 * (firstSegment + i)));
  return lut;
}
