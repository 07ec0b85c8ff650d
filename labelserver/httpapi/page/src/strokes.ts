// The strokes of one segment, with their history. A set of strokes is what the server gets each time, whole; going back in the history
// and sending that set is how the server forgets too.

/** Values of voxels under strokes. */
export const object = 1;
export const background = 2;

/** Voxels under strokes, by their place in the viewer's order, with object or background: few of the millions that a volume has. */
export type Marks = ReadonlyMap<number, number>;

/** The strokes of a segment. */
export class Strokes {
  private past: Marks[] = [];
  private future: Marks[] = [];
  private now: Marks = new Map();

  /** What is drawn now. Each change makes a new set. */
  get marks(): Marks {
    return this.now;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  get empty(): boolean {
    return this.now.size === 0;
  }

  /** Draws over what is there: voxels with their new values, 0 where a stroke was erased. Tells whether that changed anything. */
  draw(changes: Marks): boolean {
    const next = new Map(this.now);
    let changed = false;
    for (const [at, value] of changes) {
      changed ||= (next.get(at) ?? 0) !== value;
      if (value === 0) {
        next.delete(at);
      } else {
        next.set(at, value);
      }
    }
    if (changed) {
      this.become(next);
    }
    return changed;
  }

  clear(): void {
    this.become(new Map());
  }

  private become(next: Marks): void {
    this.past.push(this.now);
    this.future = [];
    this.now = next;
  }

  /** Starts anew from a set, without a history. */
  restart(marks: Marks): void {
    this.past = [];
    this.future = [];
    this.now = marks;
  }

  undo(): void {
    this.step(this.past, this.future);
  }

  redo(): void {
    this.step(this.future, this.past);
  }

  private step(from: Marks[], to: Marks[]): void {
    const state = from.pop();
    if (state) {
      to.push(this.now);
      this.now = state;
    }
  }
}
