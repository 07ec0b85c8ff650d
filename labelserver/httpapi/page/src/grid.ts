// Voxel grids: the file's own order of voxels (i fastest), and the order in which the viewer shows and draws them (RAS).

const headerBytes = 352;
const uint8Code = 2;

/** How the voxels of a NIfTI file lie in the order of the viewer. */
export interface Orientation {
  /** Size along right, anterior, superior. */
  size: [number, number, number];
  /** Steps in the file's order along each of them, and where each starts. */
  step: [number, number, number];
  start: [number, number, number];
}

/** The grid of an image: enough to read and write label maps that belong to it. */
export class Grid {
  readonly voxels: number;
  /** Volume of a voxel in mm³. */
  readonly voxelVolume: number;
  private readonly header: Uint8Array<ArrayBuffer>;

  constructor(
    image: ArrayBuffer,
    readonly orientation: Orientation,
  ) {
    const { size } = orientation;
    this.voxels = size[0] * size[1] * size[2];
    this.header = new Uint8Array(image.slice(0, headerBytes));
    const view = new DataView(this.header.buffer);
    if (view.getInt32(0, true) !== 348) {
      throw new Error("the image is no NIfTI-1 file in little-endian order");
    }
    this.voxelVolume = [80, 84, 88].reduce((volume, at) => volume * view.getFloat32(at, true), 1);
    view.setInt16(70, uint8Code, true);
    view.setInt16(72, 8, true);
    view.setFloat32(108, headerBytes, true);
    view.setFloat32(112, 1, true);
    view.setFloat32(116, 0, true);
    this.header.fill(0, 124, 132); // range of display
  }

  /** Copies voxels from the file's order to the viewer's, or back. One plain loop: a volume has tens of millions of voxels. */
  private reorder(from: Uint8Array, to: Uint8Array, toStored: boolean): void {
    const { size, step, start } = this.orientation;
    const along = step[0];
    let shown = 0;
    for (let z = 0; z < size[2]; z++) {
      for (let y = 0; y < size[1]; y++) {
        let stored = start[0] + start[1] + start[2] + z * step[2] + y * step[1];
        if (along === 1) {
          const [source, place] = toStored ? [from.subarray(shown, shown + size[0]), stored] : [from.subarray(stored, stored + size[0]), shown];
          to.set(source, place);
          shown += size[0];
          continue;
        }
        for (const end = shown + size[0]; shown < end; shown++, stored += along) {
          if (toStored) {
            to[stored] = from[shown]!;
          } else {
            to[shown] = from[stored]!;
          }
        }
      }
    }
  }

  /** A label map in the viewer's order as a NIfTI file. */
  encode(labels: Uint8Array): Uint8Array<ArrayBuffer> {
    const file = new Uint8Array(headerBytes + this.voxels);
    file.set(this.header);
    this.reorder(labels, file.subarray(headerBytes), true);
    return file;
  }

  /** Reads a NIfTI label map of this grid into the viewer's order. */
  decode(file: ArrayBuffer): Uint8Array {
    const view = new DataView(file);
    const offset = view.getFloat32(108, true);
    const bytes = view.getInt16(72, true) / 8;
    if (offset + bytes * this.voxels > file.byteLength || (bytes !== 1 && bytes !== 2)) {
      throw new Error("the label map does not lie on the image's grid");
    }
    const stored = bytes === 1 ? new Uint8Array(file, offset) : Uint8Array.from(new Uint16Array(file.slice(offset)), (v) => Math.min(v, 255));
    const out = new Uint8Array(this.voxels);
    this.reorder(stored, out, false);
    return out;
  }

  /** A label map in the viewer's order as an NRRD file. */
  encodeNRRD(labels: Uint8Array, names: string[]): Uint8Array<ArrayBuffer> {
    const nifti = this.encode(labels);
    const view = new DataView(nifti.buffer);
    const row = (r: number, c: number) => view.getFloat32(280 + 16 * r + 4 * c, true);
    const lps = (c: number) => `(${-row(0, c)},${-row(1, c)},${row(2, c)})`;
    const sizes = [0, 1, 2].map((a) => view.getInt16(42 + 2 * a, true)).join(" ");
    const lines = [
      "NRRD0004",
      "type: uint8",
      "dimension: 3",
      "space: left-posterior-superior",
      `sizes: ${sizes}`,
      `space directions: ${lps(0)} ${lps(1)} ${lps(2)}`,
      "kinds: domain domain domain",
      "encoding: raw",
      `space origin: ${lps(3)}`,
      ...names.flatMap((name, i) => [
        `Segment${i}_ID:=Segment_${i + 1}`,
        `Segment${i}_Name:=${name.replace(/[\r\n]/g, " ")}`,
        `Segment${i}_LabelValue:=${i + 1}`,
        `Segment${i}_Layer:=0`,
      ]),
      "",
      "",
    ];
    const head = new TextEncoder().encode(lines.join("\n"));
    const file = new Uint8Array(head.length + this.voxels);
    file.set(head);
    file.set(nifti.subarray(headerBytes), head.length);
    return file;
  }
}
