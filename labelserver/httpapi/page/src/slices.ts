// NiiVue for slices alone, also of large images on machines without a graphics card.
//
// NiiVue prepares for volume rendering: it turns an image into colours with a shader that runs over all voxels, and filters those for
// gradients, at every change of the window. It sends the whole drawing to the graphics card at every move of the pen, and draws the scene
// several times for each of them. For a CT of 512×512×100 voxels without a graphics card that is a minute, five seconds and a second.
// Here the processor turns intensities into grey values, of which one byte a voxel is sent; of a drawing only the part that changed is sent;
// and the scene is drawn once for each frame of the screen.
import { NVImage, Niivue } from "@niivue/niivue";

/** A box of voxels in the viewer's order: lowest and highest, both inside. */
export class Box {
  readonly low = [Infinity, Infinity, Infinity];
  readonly high = [-Infinity, -Infinity, -Infinity];

  get empty(): boolean {
    return this.low[0]! > this.high[0]!;
  }

  /** Grows by a point and what lies within a distance of it, as far as it lies in a volume. */
  add(point: ArrayLike<number>, distance: number, size: ArrayLike<number>): void {
    for (let a = 0; a < 3; a++) {
      this.low[a] = Math.max(0, Math.min(this.low[a]!, point[a]! - distance));
      this.high[a] = Math.min(size[a]! - 1, Math.max(this.high[a]!, point[a]! + distance));
    }
  }

  clear(): void {
    this.low.fill(Infinity);
    this.high.fill(-Infinity);
  }
}

export class Slices extends Niivue {
  /** What of the drawing has changed since the graphics card got it. */
  readonly changed = new Box();
  /** Where the pen has been since this was last cleared. */
  readonly pen = new Box();
  private preparing = false;
  private frame = 0;

  /** Turns the first image into a picture of grey values; the others are NiiVue's. */
  override refreshLayers(image: NVImage, layer: number): void {
    const size = image.dimsRAS!.slice(1, 4);
    if (layer !== 0 || Math.max(...size) > this.uiData.max3D!) {
      super.refreshLayers(image, layer);
      return;
    }
    // NiiVue does all it has to but the picture, which it makes of an image of one voxel.
    const voxel = new Uint8Array(1);
    const hdr = Object.assign(Object.create(Object.getPrototypeOf(image.hdr) as object), image.hdr, { dims: [3, 1, 1, 1, 1, 1, 1, 1], datatypeCode: 2 });
    const thin = Object.create(image, { hdr: { value: hdr }, img: { value: voxel } }) as NVImage;
    this.preparing = true;
    super.refreshLayers(thin, layer);
    this.preparing = false;
    const gl = this.gl;
    gl.deleteTexture(this.volumeTexture);
    this.volumeTexture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_3D, this.volumeTexture);
    for (const side of [gl.TEXTURE_WRAP_R, gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
      gl.texParameteri(gl.TEXTURE_3D, side, gl.CLAMP_TO_EDGE);
    }
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage3D(gl.TEXTURE_3D, 0, gl.LUMINANCE, size[0]!, size[1]!, size[2]!, 0, gl.LUMINANCE, gl.UNSIGNED_BYTE, greys(image));
    this.updateInterpolation(layer);
  }

  override rgbaTex(texture: WebGLTexture | null, unit: number, dims: number[], init = false): WebGLTexture | null {
    return super.rgbaTex(texture, unit, this.preparing ? [3, 1, 1, dims[3]!] : dims, init);
  }

  override drawPt(x: number, y: number, z: number, value: number, drawing: Uint8Array | null = null): void {
    super.drawPt(x, y, z, value, drawing);
    this.touch([x, y, z]);
  }

  override drawPenLine(from: number[], to: number[], value: number): void {
    super.drawPenLine(from, to, value);
    this.touch(from);
    this.touch(to);
  }

  private touch(point: number[]): void {
    const size = this.back!.dims!.slice(1, 4);
    this.changed.add(point, this.opts.penSize, size);
    this.pen.add(point, this.opts.penSize, size);
  }

  /** Sends what has changed of the drawing to the graphics card. */
  override refreshDrawing(draw = true): void {
    const drawing = this.drawBitmap;
    const { low, high } = this.changed;
    if (drawing && this.back?.dims && !this.changed.empty) {
      const gl = this.gl;
      const [width, height] = [this.back.dims[1]!, this.back.dims[2]!];
      gl.activeTexture(gl.TEXTURE7);
      gl.bindTexture(gl.TEXTURE_3D, this.drawTexture);
      const layout: [number, number][] = [
        [gl.UNPACK_ROW_LENGTH, width],
        [gl.UNPACK_IMAGE_HEIGHT, height],
        [gl.UNPACK_SKIP_PIXELS, low[0]!],
        [gl.UNPACK_SKIP_ROWS, low[1]!],
      ];
      gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
      layout.forEach(([name, value]) => gl.pixelStorei(name, value));
      const [w, h, d] = [0, 1, 2].map((a) => high[a]! - low[a]! + 1) as [number, number, number];
      gl.texSubImage3D(gl.TEXTURE_3D, 0, low[0]!, low[1]!, low[2]!, w, h, d, gl.RED, gl.UNSIGNED_BYTE, drawing.subarray(low[2]! * width * height));
      layout.forEach(([name]) => gl.pixelStorei(name, 0));
    }
    this.changed.clear();
    if (draw) {
      this.drawScene();
    }
  }

  /** Draws with the next frame of the screen, once for all that asks for it until then. */
  override drawScene(): void {
    this.frame ||= requestAnimationFrame(() => this.drawNow());
  }

  /** Draws at once what is waiting to be drawn. */
  drawNow(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    super.drawScene();
  }

  /** A double click or a long touch brings the window back, but two strokes in quick succession are no double click. */
  override resetBriCon(event: TouchEvent | MouseEvent | null = null): void {
    if (!this.opts.drawingEnabled) {
      super.resetBriCon(event);
    }
  }
}

/** How many of the voxels, of those with any intensity, the automatic window leaves out at each end. */
const tail = 0.02;

/**
 * Finds an image's range of intensities and its automatic window. NiiVue's own way takes the range from the middle of the image alone, and
 * four passes over the voxels.
 */
NVImage.prototype.calMinMax = function (this: NVImage): number[] {
  const voxels = this.img!;
  const { scl_slope: slope, scl_inter: intercept } = this.hdr!;
  const whole = voxels instanceof Int16Array || voxels instanceof Uint16Array || voxels instanceof Uint8Array || voxels instanceof Int8Array;
  let [low, high] = whole ? [voxels instanceof Int16Array ? -32768 : voxels instanceof Int8Array ? -128 : 0, 0] : [Infinity, -Infinity];
  if (!whole) {
    for (let i = 0; i < voxels.length; i++) {
      const v = voxels[i]!;
      if (Number.isFinite(v)) {
        low = v < low ? v : low;
        high = v > high ? v : high;
      }
    }
  }
  const bins = 65536;
  const scale = whole ? 1 : (bins - 1) / Math.max(high - low, Number.MIN_VALUE);
  const counts = new Uint32Array(bins);
  for (let i = 0; i < voxels.length; i++) {
    const bin = (voxels[i]! - low) * scale;
    if (bin >= 0) {
      counts[bin | 0]!++; // what is no number has no bin
    }
  }
  const zero = -low * scale;
  const background = zero >= 0 && zero < bins ? counts[zero | 0]! : 0;
  const intensity = (bin: number) => (low + bin / scale) * slope + intercept;
  const lowest = counts.findIndex((n) => n > 0);
  let highest = bins - 1;
  while (highest > 0 && counts[highest] === 0) {
    highest--;
  }
  let total = counts.reduce((sum, n) => sum + n, 0);
  // Where most is background, the window is that of the rest.
  const skip = background > 0.6 * total ? zero | 0 : -1;
  total -= skip >= 0 ? background : 0;
  const at = (fraction: number) => {
    let left = fraction * total;
    for (let bin = lowest; bin < highest; bin++) {
      left -= bin === skip ? 0 : counts[bin]!;
      if (left < 0) {
        return bin;
      }
    }
    return highest;
  };
  const none = lowest < 0;
  [this.global_min, this.global_max] = none ? [0, 0] : [intensity(lowest), intensity(highest)];
  [this.robust_min, this.robust_max] = none || total === 0 ? [this.global_min, this.global_max] : [intensity(at(tail)), intensity(at(1 - tail))];
  if (this.robust_max! <= this.robust_min!) {
    [this.robust_min, this.robust_max] = [this.global_min, this.global_max];
  }
  [this.cal_min, this.cal_max] = [this.robust_min, this.robust_max];
  return [this.cal_min!, this.cal_max!, this.global_min!, this.global_max!];
};

/** An image's intensities as grey values of its window, in the viewer's order. */
function greys(image: NVImage): Uint8Array {
  const from = image.img!;
  const size = image.dimsRAS!;
  const [step, start] = [image.img2RASstep!, image.img2RASstart!];
  const { scl_slope: slope, scl_inter: intercept } = image.hdr!;
  const scale = 255 / Math.max(image.cal_max! - image.cal_min!, 1e-12);
  const grey = (v: number) => Math.min(255, Math.max(0, Math.round((v * slope + intercept - image.cal_min!) * scale)));
  const out = new Uint8Array(size[1]! * size[2]! * size[3]!);
  // Whole numbers of 16 bits are looked up.
  const lowest = from instanceof Int16Array ? -32768 : 0;
  const table = from instanceof Int16Array || from instanceof Uint16Array ? Uint8Array.from({ length: 65536 }, (_, i) => grey(i + lowest)) : null;
  let at = 0;
  for (let z = 0; z < size[3]!; z++) {
    for (let y = 0; y < size[2]!; y++) {
      let place = start[0]! + start[1]! + start[2]! + z * step[2]! + y * step[1]!;
      const end = at + size[1]!;
      if (table) {
        for (; at < end; at++, place += step[0]!) {
          out[at] = table[from[place]! - lowest]!;
        }
      } else {
        for (; at < end; at++, place += step[0]!) {
          out[at] = grey(from[place]!);
        }
      }
    }
  }
  return out;
}
