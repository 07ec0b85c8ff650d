// The strokes of one segment, with their history. A set of strokes is what the server gets each time, whole; going back in the history
// and sending that set is how the server forgets too.

/** Values of voxels under strokes. */
export const object = 1;
export const background = 2;

interface Sparse {
  at: Uint32Array;
  value: Uint8Array;
}

/** The strokes of a segment on a grid, in the viewer's order of voxels: 0, object or background. */
export class Strokes {
  readonly voxels: Uint8Array;
  private past: Sparse[] = [];
  private future: Sparse[] = [];
  private now: Sparse;

  constructor(count: number) {
    this.voxels = new Uint8Array(count);
    this.now = sparse(this.voxels);
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  get empty(): boolean {
    return this.now.at.length === 0;
  }

  /** Number of voxels under strokes. */
  get count(): number {
    return this.now.at.length;
  }

  /** Takes what is in voxels now as a new state. */
  commit(): void {
    this.past.push(this.now);
    this.future = [];
    this.now = sparse(this.voxels);
  }

  /** Starts anew from what is in voxels, without a history. */
  restart(): void {
    this.past = [];
    this.future = [];
    this.now = sparse(this.voxels);
  }

  clear(): void {
    this.voxels.fill(0);
    this.commit();
  }

  undo(): void {
    this.step(this.past, this.future);
  }

  redo(): void {
    this.step(this.future, this.past);
  }

  private step(from: Sparse[], to: Sparse[]): void {
    const state = from.pop();
    if (!state) {
      return;
    }
    to.push(this.now);
    this.now = state;
    this.voxels.fill(0);
    state.at.forEach((at, i) => {
      this.voxels[at] = state.value[i]!;
    });
  }
}

function sparse(voxels: Uint8Array): Sparse {
  const at: number[] = [];
  voxels.forEach((v, i) => {
    if (v !== 0) {
      at.push(i);
    }
  });
  const places = Uint32Array.from(at);
  return { at: places, value: Uint8Array.from(places, (i) => voxels[i]!) };
}
