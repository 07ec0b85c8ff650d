// The page on which images are annotated.
import { type ImageRef, type Info, type Listed, type NextSlice, type Progress, Refused, Server, type Volume } from "./protocol";
import { Session, machineSeconds, userSeconds } from "./session";
import { type Intensities, type Layout, type Tool, Viewer, maxSegments } from "./viewer";
import { curve, element, seconds } from "./document";

const server = Server.ofPage();
const ui = {
  images: element("images", HTMLSelectElement),
  next: element("next", HTMLButtonElement),
  open: element("open", HTMLButtonElement),
  files: element("files", HTMLInputElement),
  download: element("download", HTMLSelectElement),
  submit: element("submit", HTMLButtonElement),
  account: element("account", HTMLButtonElement),
  segments: element("segments", HTMLUListElement),
  add: element("add", HTMLFormElement),
  name: element("name", HTMLInputElement),
  tools: element("tools", HTMLDivElement),
  brush: element("brush", HTMLInputElement),
  brushSize: element("brushSize", HTMLOutputElement),
  undo: element("undo", HTMLButtonElement),
  redo: element("redo", HTMLButtonElement),
  clear: element("clear", HTMLButtonElement),
  layouts: element("layouts", HTMLDivElement),
  window: element("window", HTMLSelectElement),
  opacity: element("opacity", HTMLInputElement),
  unsure: element("unsure", HTMLInputElement),
  view: element("view", HTMLCanvasElement),
  welcome: element("welcome", HTMLDivElement),
  busy: element("busy", HTMLDivElement),
  stage: element("stage", HTMLSpanElement),
  bar: element("bar", HTMLElement),
  place: element("place", HTMLSpanElement),
  status: element("status", HTMLSpanElement),
  interactions: element("interactions", HTMLElement),
  userTime: element("userTime", HTMLElement),
  serverTime: element("serverTime", HTMLElement),
  millilitres: element("millilitres", HTMLElement),
  suggestion: element("suggestion", HTMLParagraphElement),
  goto: element("goto", HTMLButtonElement),
  lessons: element("lessons", HTMLElement),
  distance: element("distance", HTMLElement),
  loss: document.querySelector<SVGSVGElement>("#loss")!,
  profile: element("profile", HTMLSelectElement),
  model: element("model", HTMLSelectElement),
  reset: element("reset", HTMLButtonElement),
  login: element("login", HTMLDialogElement),
  loginForm: element("loginForm", HTMLFormElement),
  user: element("user", HTMLInputElement),
  password: element("password", HTMLInputElement),
  loginError: element("loginError", HTMLParagraphElement),
};

/** Windows for CT, in HU: lowest and highest intensity. */
const ctWindows: [string, [number, number]][] = [
  ["Soft tissue", [-160, 240]],
  ["Lung", [-1350, 150]],
  ["Bone", [-450, 1050]],
  ["Brain", [0, 80]],
];

let info: Info;
let viewer: Viewer;
let session: Session | null = null;
let shownUncertainty = -1;
let setLayout: (layout: Layout) => void = () => {};
/** Whether the axial plane alone is shown because the image has no other. */
let flat = false;

function say(text: string, problem = false): void {
  ui.status.textContent = text;
  ui.status.classList.toggle("problem", problem);
}

/** Runs what a control starts, and says it when it fails. */
function attempt(action: () => Promise<void>): void {
  action().catch(async (e: unknown) => {
    if (e instanceof Refused && e.status === 401) {
      await login();
      attempt(action);
      return;
    }
    say(e instanceof Refused ? e.message : `The server does not answer (${String(e)})`, true);
  });
}

let loginDone: Promise<void> | null = null;

/** Asks for user and password until the server takes them. Several requests may wait for the same log-in. */
function login(): Promise<void> {
  loginDone ??= new Promise<void>((done) => {
    server.logout();
    ui.login.showModal();
    ui.loginForm.onsubmit = (event) => {
      event.preventDefault();
      server.login(ui.user.value, ui.password.value).then(
        () => {
          ui.login.close();
          ui.loginError.textContent = ui.password.value = "";
          ui.account.hidden = false;
          loginDone = null;
          done();
        },
        (e: unknown) => {
          ui.loginError.textContent = e instanceof Refused ? e.message : "The server does not answer";
        },
      );
    };
  });
  return loginDone;
}

function options(select: HTMLSelectElement, values: [string, string][], chosen: string): void {
  select.replaceChildren(...values.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

async function listImages(chosen: string): Promise<void> {
  showImages(await server.images(), chosen);
}

function showImages(images: Listed[], chosen: string): void {
  options(
    ui.images,
    [["", images.length > 0 ? `${images.length} images` : "no images yet"], ...images.map((i): [string, string] => [i.id, i.tags.includes("final") ? `${i.id} ✓` : i.id])],
    chosen,
  );
}

const model = () => info.models.find((m) => m.name === ui.model.value)!;

function chooseModel(): void {
  options(ui.profile, model().profiles.map((p) => [p, profileText(p)]), model().profiles[0] ?? "");
}

function profileText(profile: string): string {
  return { hindsight: "from finished slices", thesis: "within each slice", frozen: "nothing" }[profile] ?? profile;
}

/** Opens an image, with what was done on it before. Its file may be under way already. */
async function openImage(image: ImageRef, underWay?: Promise<Volume>): Promise<void> {
  say("Loading…");
  setBusy(true);
  try {
    session?.close();
    session = null;
    const { file, dicom, modality } = await (underWay ?? server.volume(image));
    const grid = await viewer.load(file, (i) => offerWindows(i, modality));
    const seg = ui.download.querySelector<HTMLOptionElement>('[value="dicom"]')!;
    seg.hidden = seg.disabled = !dicom;
    const wasFlat = flat;
    flat = grid.orientation.size[2] === 1;
    if (flat !== wasFlat) {
      setLayout(flat ? "axial" : "all");
    }
    ui.welcome.hidden = true;
    performance.mark("picture");
    const opened: Session = new Session(server, image, grid, { model: ui.model.value, profile: ui.profile.value }, {
      changed: () => opened === session && refresh(),
      told: () => opened === session && showFacts(),
      busy: setBusy,
      progress: setProgress,
      status: say,
      loginNeeded: login,
    });
    for (const name of model().labels.slice(0, maxSegments)) {
      opened.add(name);
    }
    if (opened.segments.length === 0) {
      opened.add("segment");
    }
    session = opened;
    await opened.resume();
    select(Math.max(0, opened.segments.findIndex((s) => !s.strokes.empty)));
    history.replaceState(null, "", `?${image.session ? "session" : "image"}=${encodeURIComponent(image.id)}`);
    say(`${image.session ? "Uploaded image" : image.id}: ${grid.orientation.size.join(" × ")} voxels`);
  } finally {
    setBusy(false);
  }
}

/** Offers the windows that suit an image, and returns the first. What does not say its modality is CT if it has air and bone in HU. */
function offerWindows({ lowest, highest, robust }: Intensities, modality: string | null): [number, number] {
  const ct = modality === null ? lowest < -500 && highest > 200 : modality === "CT";
  const windows: [string, [number, number]][] = [...(ct ? ctWindows : []), ["Automatic", robust], ["Whole range", [lowest, highest]]];
  ui.window.replaceChildren(...windows.map(([name, range]) => new Option(name, JSON.stringify(range))));
  return windows[0]![1];
}

function select(at: number): void {
  if (!session) {
    return;
  }
  session.selected = at;
  refresh();
}

/** Brings everything shown up to date with the session. */
function refresh(): void {
  if (!session) {
    return;
  }
  const segment = session.current;
  viewer.show(
    { strokes: segment!.strokes.marks, segments: session.labels, colours: session.segments.map((s) => s.colour) },
    Number(ui.opacity.value) / 100,
  );
  showSegments();
  showFacts();
  showUncertainty();
}

function showSegments(): void {
  const focused = document.activeElement?.closest("#segments") !== null;
  ui.segments.replaceChildren(
    ...session!.segments.map((s, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", String(i === session!.selected));
      button.tabIndex = i === session!.selected ? 0 : -1;
      const dot = curve.dot(s.colour);
      const name = document.createElement("span");
      name.textContent = s.name;
      const count = document.createElement("small");
      count.textContent = s.interactions > 0 ? String(s.interactions) : "";
      count.setAttribute("aria-hidden", "true");
      button.setAttribute("aria-label", s.interactions > 0 ? `${s.name}, interactions: ${s.interactions}` : s.name);
      button.append(dot, name, count);
      button.onclick = () => select(i);
      const item = document.createElement("li");
      item.setAttribute("role", "none"); // the group holds its radio buttons
      item.append(button);
      return item;
    }),
  );
  if (focused) {
    ui.segments.querySelector<HTMLButtonElement>('[aria-checked="true"]')?.focus();
  }
}

function showFacts(): void {
  const s = session!.current!;
  ui.undo.disabled = !s.strokes.canUndo;
  ui.redo.disabled = !s.strokes.canRedo;
  ui.clear.disabled = s.strokes.empty;
  ui.interactions.textContent = String(s.interactions);
  ui.userTime.textContent = seconds(userSeconds(s));
  ui.serverTime.textContent = seconds(machineSeconds(s));
  ui.millilitres.textContent = s.voxels > 0 ? `${millilitres((s.voxels * session!.grid.voxelVolume) / 1000)} ml` : "–";
  ui.suggestion.hidden = !s.next;
  if (s.next) {
    ui.goto.textContent = `A stroke helps most on ${viewer.planeName(axisOf(s.next.plane))} slice ${s.next.index + 1}`;
    ui.goto.title = s.next.why;
  }
  ui.lessons.textContent = String(s.learned?.lessons ?? 0);
  ui.distance.textContent = `${(100 * (s.learned?.distance ?? 0)).toFixed(2)} %`;
  curve.draw(ui.loss, s.learned?.loss ?? []);
  ui.submit.disabled = session!.image.session;
  ui.submit.title = session!.image.session ? "This image was only uploaded for a while: download the mask instead" : "Store the segments as this image's finished label";
}

function axisOf(plane: NextSlice["plane"]): number {
  return "ijk".indexOf(plane);
}

function millilitres(v: number): string {
  return v.toFixed(v < 10 ? 2 : v < 100 ? 1 : 0);
}

function showUncertainty(): void {
  const s = session?.current;
  const wanted = ui.unsure.checked && s ? s.interactions : -1;
  if (wanted === shownUncertainty) {
    return;
  }
  shownUncertainty = wanted;
  attempt(async () => {
    await viewer.showUncertainty(wanted < 0 ? null : await server.uncertainty(session!.image, { model: ui.model.value, label: s!.name }));
  });
}

let longTimer = 0;

/** Shows that the server thinks: a thin line at once, a bar with the stage when it takes longer than a second. */
function setBusy(on: boolean): void {
  ui.busy.hidden = !on;
  ui.busy.classList.remove("long");
  clearTimeout(longTimer);
  if (on) {
    longTimer = setTimeout(() => ui.busy.classList.add("long"), 1000);
  }
}

function setProgress(p: Progress | null): void {
  const known = p !== null && p.total > 0;
  ui.stage.textContent = p ? stageText(p) : "";
  ui.bar.classList.toggle("known", known);
  ui.bar.style.width = known ? `${(100 * p.done) / p.total}%` : "";
  if (known) {
    ui.busy.setAttribute("aria-valuenow", String(Math.round((100 * p.done) / p.total)));
  } else {
    ui.busy.removeAttribute("aria-valuenow");
  }
}

function stageText(p: Progress): string {
  const stages: Record<string, string> = {
    wait: "Waiting for the device",
    image: "Reading the image",
    learn: "Learning from finished slices",
    slices: "Answering the slices you drew on",
    carry: "Carrying the object through the volume",
    compose: "Putting the mask together",
  };
  const text = stages[p.stage] ?? p.stage;
  return p.total > 0 ? `${text}: ${p.done} of ${p.total}` : text;
}

function changeStrokes(step: "undo" | "redo" | "clear"): void {
  const segment = session?.current;
  if (!segment) {
    return;
  }
  segment.strokes[step]();
  refresh();
  attempt(() => session!.update());
}

async function save(kind: string): Promise<void> {
  if (!session?.current) {
    return;
  }
  const names = session.segments.map((s) => s.name);
  const base = session.image.session ? "image" : session.image.id;
  if (kind === "nifti") {
    offer(new Blob([session.grid.encode(session.labels)]), `${base}_label.nii`);
  } else if (kind === "nrrd") {
    offer(new Blob([session.grid.encodeNRRD(session.labels, names)]), `${base}_label.seg.nrrd`);
  } else if (kind === "dicom") {
    const { map, names } = await session.upload();
    const seg = await server.dicomSeg(session.image, { model: ui.model.value, label: session.current.name }, map, names);
    offer(seg, `${base}_${session.current.name}.dcm`);
  }
}

function offer(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function upload(files: File[]): Promise<void> {
  if (files.length === 0) {
    return;
  }
  say(`Uploading ${files.length === 1 ? files[0]!.name : `${files.length} files`}…`);
  const image = await server.upload(files);
  await listImages(image.session ? "" : image.id);
  await openImage(image);
}

async function nextImage(): Promise<void> {
  const id = await server.nextImage(info.strategies[0] ?? "random");
  if (!id) {
    say("All images have a finished label.");
    return;
  }
  ui.images.value = id;
  await openImage({ id, session: false });
}

/** Makes a group of buttons behave as radio buttons do, for mouse, keys and screen readers. */
function radios(group: HTMLElement, key: string, chosen: string, choose: (value: string) => void): (value: string) => void {
  const buttons = [...group.querySelectorAll<HTMLButtonElement>("[role=radio]")];
  const mark = (value: string) => {
    for (const b of buttons) {
      const on = b.dataset[key] === value;
      b.setAttribute("aria-checked", String(on));
      b.tabIndex = on ? 0 : -1;
    }
  };
  const set = (value: string) => {
    mark(value);
    choose(value);
  };
  for (const b of buttons) {
    b.onclick = () => set(b.dataset[key]!);
  }
  arrowKeys(group);
  mark(chosen);
  return set;
}

/** Lets the arrow keys move between the radio buttons of a group. */
function arrowKeys(group: HTMLElement): void {
  group.addEventListener("keydown", (event) => {
    const buttons = [...group.querySelectorAll<HTMLButtonElement>("[role=radio]")];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (at < 0 || !step) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    const next = (at + step + buttons.length) % buttons.length;
    buttons[next]!.click();
    group.querySelectorAll<HTMLButtonElement>("[role=radio]")[next]!.focus();
  });
}

function connect(): void {
  const setTool = radios(ui.tools, "tool", "object", (v) => viewer.useTool(v as Tool));
  setLayout = radios(ui.layouts, "layout", "all", (v) => viewer.setLayout(v as Layout));
  arrowKeys(ui.segments);
  const setBrush = (size: number) => {
    ui.brush.valueAsNumber = size;
    ui.brushSize.value = ui.brush.value;
    viewer.setBrush(ui.brush.valueAsNumber);
  };
  ui.brush.oninput = () => setBrush(ui.brush.valueAsNumber);
  ui.undo.onclick = () => changeStrokes("undo");
  ui.redo.onclick = () => changeStrokes("redo");
  ui.clear.onclick = () => changeStrokes("clear");
  ui.window.onchange = () => viewer.setRange(JSON.parse(ui.window.value) as [number, number]);
  ui.opacity.oninput = () => refresh();
  ui.unsure.onchange = () => showUncertainty();
  ui.images.onchange = () => ui.images.value && attempt(() => openImage({ id: ui.images.value, session: false }));
  ui.next.onclick = () => attempt(nextImage);
  ui.open.onclick = () => ui.files.click();
  ui.files.onchange = () => attempt(() => upload([...(ui.files.files ?? [])]));
  ui.download.onchange = () => {
    const kind = ui.download.value;
    ui.download.value = "";
    attempt(() => save(kind));
  };
  ui.submit.onclick = () =>
    attempt(async () => {
      if (!session) {
        return;
      }
      await session.submit();
      await listImages(session.image.id);
      say("Stored as the finished label. Next image?");
    });
  ui.account.onclick = () => {
    server.logout();
    location.reload();
  };
  ui.add.onsubmit = (event) => {
    event.preventDefault();
    const name = ui.name.value.trim();
    if (!session || !name || session.segments.length >= maxSegments) {
      return;
    }
    const at = session.segments.findIndex((s) => s.name === name);
    if (at < 0) {
      session.add(name);
    }
    ui.name.value = "";
    select(at < 0 ? session.segments.length - 1 : at);
  };
  ui.goto.onclick = () => {
    const next = session?.current?.next;
    if (next) {
      viewer.goTo(axisOf(next.plane), next.index);
    }
  };
  ui.reset.onclick = () => attempt(async () => session?.forget());
  ui.model.onchange = () => {
    chooseModel();
    const image = session?.image;
    if (image) {
      attempt(() => openImage(image));
    }
  };
  ui.profile.onchange = () => session && (session.options.profile = ui.profile.value);
  viewer.onStroke = (changes) => {
    const changed = session?.current?.strokes.draw(changes);
    refresh();
    if (changed) {
      attempt(async () => session?.update());
    }
  };
  viewer.onPlace = (text) => {
    ui.place.textContent = text;
  };
  document.addEventListener("keydown", (event) => shortcut(event, setTool, setBrush));
  dropTarget();
}

function shortcut(event: KeyboardEvent, setTool: (v: string) => void, setBrush: (v: number) => void): void {
  const target = event.target as HTMLElement;
  if (ui.login.open || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) {
    return;
  }
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" || key === "y") {
      event.preventDefault();
      changeStrokes(key === "y" || event.shiftKey ? "redo" : "undo");
    }
    return;
  }
  const actions: Record<string, () => void> = {
    "1": () => setTool("object"),
    "2": () => setTool("background"),
    "3": () => setTool("eraser"),
    "4": () => setTool("move"),
    "[": () => setBrush(ui.brush.valueAsNumber - 2),
    "]": () => setBrush(ui.brush.valueAsNumber + 2),
    a: () => setLayout("all"),
    z: () => setLayout("axial"),
    x: () => setLayout("coronal"),
    c: () => setLayout("sagittal"),
    g: () => ui.goto.click(),
    u: () => ui.unsure.click(),
    n: () => ui.next.click(),
    arrowup: () => viewer.move(0, 0, 1),
    arrowdown: () => viewer.move(0, 0, -1),
    pageup: () => viewer.move(0, 0, 1),
    pagedown: () => viewer.move(0, 0, -1),
    arrowleft: () => viewer.move(-1, 0, 0),
    arrowright: () => viewer.move(1, 0, 0),
  };
  const onView: Record<string, () => void> = {
    arrowup: () => viewer.move(0, 1, 0),
    arrowdown: () => viewer.move(0, -1, 0),
  };
  const drawing = key === " " && !target.closest("button, a") ? () => viewer.drawAtCross() : undefined;
  const action = drawing ?? (event.shiftKey ? onView[key] : undefined) ?? actions[key];
  if (action) {
    event.preventDefault();
    event.stopPropagation();
    action();
  }
}

/** Takes files dropped anywhere, also over the image, where the viewer would keep them to itself. */
function dropTarget(): void {
  const on = (kind: "dragover" | "dragleave" | "drop", act: (event: DragEvent) => void) =>
    document.addEventListener(
      kind,
      (event) => {
        event.preventDefault();
        event.stopPropagation();
        act(event);
      },
      { capture: true },
    );
  on("dragover", () => document.body.classList.add("dropping"));
  on("dragleave", (event) => {
    if (!event.relatedTarget) {
      document.body.classList.remove("dropping");
    }
  });
  on("drop", (event) => {
    document.body.classList.remove("dropping");
    attempt(() => upload([...(event.dataTransfer?.files ?? [])]));
  });
}

async function start(): Promise<void> {
  const query = new URLSearchParams(location.search);
  const id = query.get("image") ?? query.get("session");
  const image = id === null ? null : { id, session: query.has("session") };
  // What the server has to tell is asked for before the viewer makes itself ready, which takes as long.
  const ask = () => ({ info: server.info(), images: server.images(), volume: image && server.volume(image) });
  let asked = server.loginNeeded ? null : ask();
  Object.values(asked ?? {}).forEach((answer) => void answer?.catch(() => {})); // told where it is waited for
  viewer ??= await Viewer.on(ui.view);
  viewer.setBrush(3);
  if (!asked) {
    await login();
    asked = ask();
  }
  ui.account.hidden = !server.loggedIn;
  info = await asked.info;
  const drawn = info.models.filter((m) => m.type === "scribbles");
  options(ui.model, drawn.map((m) => [m.name, m.name]), drawn[0]?.name ?? "");
  chooseModel();
  connect();
  showImages(await asked.images, query.get("image") ?? "");
  if (image) {
    await openImage(image, asked.volume ?? undefined);
  } else if (ui.images.options.length === 2) {
    ui.images.selectedIndex = 1;
    await openImage({ id: ui.images.value, session: false });
  } else {
    say("Choose an image, or press Next image.");
  }
}

// For automation and support: where things are on the screen, and what the page holds.
Object.assign(globalThis, {
  scrawl: {
    pageOf: (voxel: [number, number, number]) => viewer.pageOf(voxel),
    size: () => session?.grid.orientation.size,
    stored: () => session && session.grid.encode(session.labels).slice(352),
    strokeVoxels: () => session?.current?.strokes.marks.size ?? 0,
    goTo: (axis: number, slice: number) => viewer.goTo(axis, slice),
    cross: () => viewer.cross,
    range: () => viewer.range,
  },
});

attempt(start);
