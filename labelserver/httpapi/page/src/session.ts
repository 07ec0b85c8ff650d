// One image being annotated: its segments, their strokes, and the conversation with the server about them.
import { Grid } from "./grid";
import { type ImageRef, type Learned, type NextSlice, type Progress, Refused, type Server, deflate, requestID } from "./protocol";
import { type Marks, Strokes, background, object } from "./strokes";

/** A segment of the image: what the clinician calls it, and how it came about so far. */
export interface Segment {
  name: string;
  colour: [number, number, number];
  strokes: Strokes;
  /** How many voxels it has. */
  voxels: number;
  interactions: number;
  /** What the user and the server have spent on it before this session, and the server since. */
  userSecondsBefore: number;
  serverSecondsBefore: number;
  serverSeconds: number;
  firstStroke: number | null;
  lastStroke: number;
  next: NextSlice | null;
  learned: Learned | null;
}

const palette: [number, number, number][] = [
  [92, 173, 232], [240, 178, 85], [178, 132, 226], [120, 200, 120], [232, 124, 168], [214, 204, 92], [96, 205, 196], [222, 140, 92],
];

/** Answers that took longer than this (in seconds) are asked for in two parts: the slices drawn on first, then the volume. */
const quick = 0.8;
/** Images of more voxels than this are taken to be slow until it is known. */
const large = 4e6;

/** Which values of a remembered label map belong to the segment: the segment itself, and strokes on it. */
const rememberedSegment = 1;
const rememberedBackground = 2;
const rememberedObject = 3;

/** What the session tells the page. */
export interface Listener {
  /** Strokes or segments have changed. */
  changed(): void;
  /** What is told of a segment has changed. */
  told(): void;
  busy(on: boolean): void;
  progress(p: Progress | null): void;
  status(text: string, problem?: boolean): void;
  loginNeeded(): Promise<void>;
}

/** Options of the learning. */
export interface Options {
  model: string;
  profile: string;
}

export class Session {
  readonly segments: Segment[] = [];
  /** Number of the segment of each voxel, 0 for none, in the viewer's order. */
  readonly labels: Uint8Array;
  selected = 0;
  private running = false;
  private wanted = false;
  private closed = false;
  private volumeSeconds: number;

  constructor(
    private readonly server: Server,
    readonly image: ImageRef,
    readonly grid: Grid,
    readonly options: Options,
    private readonly listener: Listener,
  ) {
    this.labels = new Uint8Array(grid.voxels);
    this.volumeSeconds = grid.voxels > large ? Infinity : 0;
  }

  get current(): Segment | null {
    return this.segments[this.selected] ?? null;
  }

  add(name: string): Segment {
    const segment: Segment = {
      name,
      colour: palette[this.segments.length % palette.length]!,
      strokes: new Strokes(),
      voxels: 0,
      interactions: 0,
      userSecondsBefore: 0,
      serverSecondsBefore: 0,
      serverSeconds: 0,
      firstStroke: null,
      lastStroke: 0,
      next: null,
      learned: null,
    };
    this.segments.push(segment);
    return segment;
  }

  /** Takes up what was done before: the finished label if there is one, and what the server remembers of this browser's strokes. */
  async resume(): Promise<void> {
    const finished = await this.server.label(this.image);
    if (finished) {
      const map = this.grid.decode(finished.file);
      const present = new Uint8Array(256);
      map.forEach((n) => (present[n] = 1));
      for (let n = 1; n < present.length; n++) {
        if (present[n]) {
          this.take(this.find(finished.names.get(n) ?? `segment ${n}`), map, [n]);
        }
      }
    }
    for (const name of await this.server.labelsOf(this.image, this.options.model)) {
      const file = await this.server.remembered(this.image, { model: this.options.model, label: name });
      if (!file) {
        continue;
      }
      const map = this.grid.decode(file);
      const number = this.find(name);
      const segment = this.segments[number - 1]!;
      segment.strokes.restart(strokesOf(map));
      this.take(number, map, [rememberedSegment, rememberedObject]);
      await this.askLearned(segment);
      segment.interactions = segment.learned?.on_image ?? 0;
      segment.userSecondsBefore = segment.learned?.user_seconds ?? 0;
      segment.serverSecondsBefore = segment.learned?.machine_seconds ?? 0;
    }
    this.listener.changed();
  }

  /** Number of a segment by name; it is added when it is new. */
  private find(name: string): number {
    const at = this.segments.findIndex((s) => s.name === name);
    if (at >= 0) {
      return at + 1;
    }
    this.add(name);
    return this.segments.length;
  }

  /** Gives a segment the voxels at which a map has one of some values; other segments keep theirs. */
  private take(number: number, map: Uint8Array, values: number[]): void {
    const belongs = new Uint8Array(256);
    values.forEach((v) => (belongs[v] = 1));
    const labels = this.labels;
    let voxels = 0;
    for (let i = 0; i < labels.length; i++) {
      const was = labels[i]!;
      if (belongs[map[i]!] === 0) {
        if (was === number) {
          labels[i] = 0;
        }
      } else if (was === 0 || was === number) {
        labels[i] = number;
        voxels++;
      }
    }
    this.segments[number - 1]!.voxels = voxels;
  }

  /** Sends the strokes of the selected segment. While an answer is under way, the newest strokes wait for it. */
  async update(): Promise<void> {
    this.wanted = true;
    if (this.running) {
      return;
    }
    this.running = true;
    this.listener.busy(true);
    try {
      while (this.wanted && !this.closed) {
        this.wanted = false;
        await this.interact(this.selected);
      }
    } finally {
      this.running = false;
      this.listener.busy(false);
      this.listener.progress(null);
    }
  }

  close(): void {
    this.closed = true;
  }

  private async interact(at: number): Promise<void> {
    const segment = this.segments[at]!;
    performance.mark("stroke");
    segment.firstStroke ??= performance.now();
    segment.lastStroke = performance.now();
    segment.interactions++;
    let undone = false;
    if (this.volumeSeconds > quick) {
      ({ undone } = await this.ask(at, "slice", false));
      if (this.wanted) {
        return; // newer strokes come first; the volume follows them
      }
    }
    this.volumeSeconds = (await this.ask(at, "volume", undone)).seconds;
    void this.followLearning(segment);
  }

  /**
   * Asks for an answer until there is one, however long the server is away. It tells the seconds it took, and whether it took strokes back,
   * or the answer before it did that this one completes.
   */
  private async ask(at: number, propagate: "slice" | "volume", undoneBefore: boolean): Promise<{ seconds: number; undone: boolean }> {
    const segment = this.segments[at]!;
    for (let pause = 1; !this.closed; pause = Math.min(pause * 2, 10)) {
      const request = requestID();
      const watch = this.watch(request);
      const start = performance.now();
      try {
        const { file, scrawl } = await this.server.infer(
          this.image,
          { model: this.options.model, label: segment.name },
          request,
          await deflate(this.grid.encode(this.withStrokes(segment))),
          [...this.segments.map((s) => s.name), "background_scribbles", "foreground_scribbles"],
          { profile: this.options.profile, propagate },
        );
        const seconds = (performance.now() - start) / 1000;
        const undone = undoneBefore || scrawl.undone === true;
        if (this.closed) {
          return { seconds, undone };
        }
        this.take(at + 1, this.grid.decode(file), [1]);
        segment.serverSeconds += seconds;
        segment.next = scrawl.next_slice ?? null;
        this.listener.status(describe(undone, scrawl.note, seconds));
        this.listener.changed();
        performance.mark("mask");
        return { seconds, undone };
      } catch (e) {
        if (!(await this.mayRetry(e))) {
          break;
        }
        await sleep(1000 * pause);
      } finally {
        watch();
      }
    }
    return { seconds: 0, undone: false };
  }

  /** Tells whether asking again makes sense: after a log-in, when the server is away, or when it has too much to do. */
  private async mayRetry(e: unknown): Promise<boolean> {
    if (e instanceof Refused) {
      if (e.status === 401) {
        await this.listener.loginNeeded();
        return true;
      }
      this.listener.status(e.message, true);
      return e.status === 429 || e.status === 503;
    }
    this.listener.status("The server does not answer. Your strokes are kept; trying again…", true);
    return true;
  }

  private withStrokes(segment: Segment): Uint8Array {
    const map = this.labels.slice();
    const backgroundNumber = this.segments.length + 1;
    for (const [at, stroke] of segment.strokes.marks) {
      map[at] = stroke === object ? backgroundNumber + 1 : backgroundNumber;
    }
    return map;
  }

  /** Follows a request's progress until the returned function is called. */
  private watch(request: string): () => void {
    const timer = setInterval(() => {
      this.server.progress(request).then(
        (p) => this.listener.progress(p),
        () => {}, // the request itself reports what is wrong
      );
    }, 400);
    return () => clearInterval(timer);
  }

  private async followLearning(segment: Segment): Promise<void> {
    for (let i = 0; i < 60 && !this.closed; i++) {
      if (!(await this.askLearned(segment)) || !segment.learned?.busy) {
        return;
      }
      await sleep(500);
    }
  }

  private async askLearned(segment: Segment): Promise<boolean> {
    try {
      const now = await this.server.learned(this.image, { model: this.options.model, label: segment.name });
      const { lessons, distance, loss } = (now.busy ? segment.learned : null) ?? now; // what is being learned is told when it is done
      segment.learned = { ...now, lessons, distance, loss };
      this.listener.told();
      return true;
    } catch {
      return false; // only a display; the next interaction asks again
    }
  }

  /** Forgets everything learned for the selected segment, and answers its strokes anew. */
  async forget(): Promise<void> {
    const segment = this.current;
    if (!segment) {
      return;
    }
    // The mask came of what is forgotten: sent along, it would count as drawn by hand.
    const number = this.selected + 1;
    const map = await deflate(this.grid.encode(this.labels.map((v) => (v === number ? 0 : v))));
    await this.server.infer(this.image, { model: this.options.model, label: segment.name }, requestID(), map, this.segments.map((s) => s.name), {
      profile: this.options.profile,
      reset: "everything learned",
      propagate: "slice",
    });
    segment.learned = null;
    this.take(number, this.labels, []);
    await this.update();
  }

  async submit(): Promise<void> {
    const current = this.current;
    await this.server.submit(this.image, this.options.model, await deflate(this.grid.encode(this.labels)), this.segments.map((s) => s.name), {
      interactions: this.segments.reduce((n, s) => n + s.interactions, 0),
      user_seconds: Math.round(this.segments.reduce((n, s) => n + userSeconds(s), 0)),
      machine_seconds: Math.round(this.segments.reduce((n, s) => n + machineSeconds(s), 0)),
    });
    if (current) {
      void this.followLearning(current);
    }
  }

  /** The mask of one segment as an upload, with the segments' names. */
  async upload(): Promise<{ map: Blob; names: string[] }> {
    const segment = this.current!;
    return {
      map: await deflate(this.grid.encode(this.withStrokes(segment))),
      names: [...this.segments.map((s) => s.name), "background_scribbles", "foreground_scribbles"],
    };
  }
}

/** Seconds from a segment's first stroke to its last, less what the server took, and what was spent on it in earlier sessions. */
export function userSeconds(s: Segment): number {
  const now = s.firstStroke === null ? 0 : Math.max(0, (s.lastStroke - s.firstStroke) / 1000 - s.serverSeconds);
  return s.userSecondsBefore + now;
}

/** What the server has spent on a segment's answers, in earlier sessions too. */
export function machineSeconds(s: Segment): number {
  return s.serverSecondsBefore + s.serverSeconds;
}

/** The strokes of a remembered label map. */
function strokesOf(map: Uint8Array): Marks {
  const marks = new Map<number, number>();
  for (let i = 0; i < map.length; i++) {
    if (map[i] === rememberedObject) {
      marks.set(i, object);
    } else if (map[i] === rememberedBackground) {
      marks.set(i, background);
    }
  }
  return marks;
}

function describe(undone: boolean, note: string | undefined, seconds: number): string {
  const took = `${seconds.toFixed(1)} s`;
  if (undone) {
    return `Taken back, with what was learned from it (${took})`;
  }
  return note ? `${note} (${took})` : `Answered in ${took}`;
}

function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
