// The server's protocol as this page uses it: MONAI Label's routes, and the few of Scrawl's own under /scrawl/.

/** What the server says of a model. */
export interface Model {
  name: string;
  type: string;
  labels: string[];
  description: string;
  profiles: string[];
}

/** What the server offers. */
export interface Info {
  name: string;
  version: string;
  models: Model[];
  strategies: string[];
}

/** An image of the datastore, or one uploaded for a while. */
export interface ImageRef {
  id: string;
  session: boolean;
}

/** An image in the list of the datastore. */
export interface Listed {
  id: string;
  ext: string;
  tags: string[];
}

/** An image's file, whether it was made of a DICOM series, and of what modality; null when that is not known. */
export interface Volume {
  file: ArrayBuffer;
  dicom: boolean;
  modality: string | null;
}

/** Whose state a request is about. */
export interface Lineage {
  model: string;
  label: string;
}

/** An answer to strokes. */
export interface Answer {
  file: ArrayBuffer;
  scrawl: ScrawlReport;
}

/** The slice that a stroke would help most: the plane by the file's axis that it is across, and its number along that axis. */
export interface NextSlice {
  plane: "i" | "j" | "k";
  index: number;
  why: string;
}

/** What the server tells of an interaction beside the mask. */
export interface ScrawlReport {
  answered?: number;
  carried?: number;
  learned?: number;
  undone?: boolean;
  note?: string;
  next_slice?: NextSlice;
  seconds?: Record<string, number>;
}

/** What has been learned, as GET /scrawl/learned tells it. */
export interface Learned {
  /** Counted over all images. */
  interactions: number;
  /** Those with this image. */
  on_image: number;
  /** Spent on this image: by the user between answers, and by the server on them. */
  user_seconds: number;
  machine_seconds: number;
  lessons: number;
  busy: boolean;
  distance: number;
  loss: number[];
}

/** How far a request is. */
export interface Progress {
  stage: string;
  done: number;
  total: number;
}

/** A refusal, with the server's sentence. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const tokenKey = "scrawl-token";
const clientKey = "scrawl-client";

/** A connection to the server that the page came from. */
export class Server {
  private constructor(
    private readonly prefix: string,
    private readonly logins: boolean,
  ) {}

  /** The server as the page that it sent describes it. */
  static ofPage(): Server {
    const { apiPrefix, logins } = document.documentElement.dataset;
    return new Server(apiPrefix ?? "", logins !== undefined);
  }

  /** The name under which this browser's work is kept. */
  readonly client = browserName();

  get loggedIn(): boolean {
    return sessionStorage.getItem(tokenKey) !== null;
  }

  /** Whether the server will refuse everything until someone logs in. */
  get loginNeeded(): boolean {
    return this.logins && !this.loggedIn;
  }

  async login(username: string, password: string): Promise<void> {
    const { access_token } = await this.tokenFor({ username, password });
    this.useToken(access_token);
  }

  /** Logs the whole browser in, by a cookie: the viewers in it too. */
  async loginBrowser(username: string, password: string): Promise<void> {
    await this.tokenFor({ username, password, cookie: "true" });
  }

  private tokenFor(fields: Record<string, string>): Promise<{ access_token: string }> {
    return this.json("/auth/token", { method: "POST", body: new URLSearchParams({ ...fields, grant_type: "password" }) });
  }

  useToken(token: string): void {
    sessionStorage.setItem(tokenKey, token);
  }

  logout(): void {
    sessionStorage.removeItem(tokenKey);
  }

  async info(): Promise<Info> {
    const raw = await this.json<{
      name: string;
      version: string;
      models: Record<string, { type: string; labels: string[] | Record<string, number>; description: string; config?: { profile?: string[] } }>;
      strategies: Record<string, unknown>;
    }>("/info/");
    return {
      name: raw.name,
      version: raw.version,
      strategies: Object.keys(raw.strategies),
      models: Object.entries(raw.models).map(([name, m]) => ({
        name,
        type: m.type,
        description: m.description,
        labels: Array.isArray(m.labels) ? m.labels : Object.keys(m.labels),
        profiles: m.config?.profile ?? [],
      })),
    };
  }

  async images(): Promise<Listed[]> {
    const document = await this.json<{
      objects?: Record<string, { image?: { ext?: string }; labels?: Record<string, unknown> }>;
    }>("/datastore/?output=all");
    return Object.entries(document.objects ?? {}).map(([id, o]) => ({
      id,
      ext: o.image?.ext ?? "",
      tags: Object.keys(o.labels ?? {}),
    }));
  }

  async nextImage(strategy: string): Promise<string | null> {
    const sample = await this.json<{ id?: string }>(`/activelearning/${encodeURIComponent(strategy)}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ client_id: this.client }),
    });
    return sample.id ?? null;
  }

  /** The image as one uncompressed NIfTI file, whatever it is stored as. */
  async volume(image: ImageRef): Promise<Volume> {
    const answer = await this.call(`/scrawl/volume?${imageQuery(image)}`);
    return { file: await answer.arrayBuffer(), dicom: answer.headers.has("X-Dicom-Series"), modality: answer.headers.get("X-Dicom-Modality") };
  }

  /** The finished label, as a NIfTI file, with the names of its segments; null when there is none. */
  async label(image: ImageRef): Promise<{ file: ArrayBuffer; names: Map<number, string> } | null> {
    if (image.session) {
      return null;
    }
    try {
      const file = await (await this.call(`/scrawl/label?${imageQuery(image)}`)).arrayBuffer();
      const info = await this.json<{ params?: { label_info?: { name: string; idx?: number; id?: number }[] }; label_info?: { name: string; idx?: number; id?: number }[] }>(
        `/datastore/label/info?label=${encodeURIComponent(image.id)}&tag=final`,
      );
      const names = new Map<number, string>();
      for (const [i, s] of (info.label_info ?? info.params?.label_info ?? []).entries()) {
        names.set(s.idx ?? s.id ?? i + 1, s.name);
      }
      return { file, names };
    } catch (e) {
      if (e instanceof Refused && e.status === 404) {
        return null;
      }
      throw e;
    }
  }

  /** What the server remembers of an image: strokes and mask, as a NIfTI label map (1 segment, 2 background stroke, 3 object stroke). */
  async remembered(image: ImageRef, lineage: Lineage): Promise<ArrayBuffer | null> {
    const answer = await this.call(`/scrawl/state?${this.lineageQuery(image, lineage)}`);
    return answer.status === 204 ? null : answer.arrayBuffer();
  }

  /** The labels under which the server remembers work of this client on an image. */
  async labelsOf(image: ImageRef, model: string): Promise<string[]> {
    return this.json<string[]>(`/scrawl/labels?${this.lineageQuery(image, { model, label: "" })}`);
  }

  async learned(image: ImageRef, lineage: Lineage): Promise<Learned> {
    return this.json<Learned>(`/scrawl/learned?${this.lineageQuery(image, lineage)}`);
  }

  /** How unsure the last answer is, as a NIfTI file of 0 (sure) to 255; null before the first answer. */
  async uncertainty(image: ImageRef, lineage: Lineage): Promise<ArrayBuffer | null> {
    const answer = await this.call(`/scrawl/uncertainty?${this.lineageQuery(image, lineage)}`);
    return answer.status === 204 ? null : answer.arrayBuffer();
  }

  async progress(request: string): Promise<Progress | null> {
    const answer = await this.call(`/scrawl/progress?request=${request}`);
    return answer.status === 204 ? null : ((await answer.json()) as Progress);
  }

  /** Sends all strokes and segments of an image and returns the new mask of one segment. */
  async infer(image: ImageRef, lineage: Lineage, request: string, labelMap: Blob, names: string[], options: Record<string, unknown>): Promise<Answer> {
    const params = {
      client_id: this.client,
      selected_label_name: lineage.label,
      label_info: names.map((name, i) => ({ name, id: i + 1 })),
      result_extension: ".nii.gz",
      result_dtype: "uint8",
      ...options,
    };
    const form = new FormData();
    form.set("params", JSON.stringify(params));
    form.set("label", labelMap, "label.nii.gz");
    const answer = await this.call(`/infer/${encodeURIComponent(lineage.model)}?${imageQuery(image)}`, {
      method: "POST",
      body: form,
      headers: { "X-Request-Id": request },
    });
    const parts = await answer.formData();
    const file = parts.get("image");
    const told = JSON.parse(String(parts.get("params"))) as { scrawl?: ScrawlReport };
    if (!(file instanceof File)) {
      throw new Refused(500, "the server's answer holds no mask");
    }
    return { file: await inflate(await file.arrayBuffer()), scrawl: told.scrawl ?? {} };
  }

  /** The mask of one segment as a DICOM segmentation object. */
  async dicomSeg(image: ImageRef, lineage: Lineage, labelMap: Blob, names: string[]): Promise<Blob> {
    const form = new FormData();
    const info = names.map((name, i) => ({ name, id: i + 1 }));
    form.set("params", JSON.stringify({ client_id: this.client, selected_label_name: lineage.label, label_info: info }));
    form.set("label", labelMap, "label.nii.gz");
    const address = `/infer/${encodeURIComponent(lineage.model)}?output=dicom_seg&${imageQuery(image)}`;
    return (await this.call(address, { method: "POST", body: form })).blob();
  }

  async submit(image: ImageRef, model: string, labelMap: Blob, names: string[], facts: Record<string, unknown>): Promise<void> {
    const form = new FormData();
    const info = names.map((name, i) => ({ name, idx: i + 1 }));
    form.set("params", JSON.stringify({ label_info: info, client_id: this.client, model, ...facts }));
    form.set("label", labelMap, "label.nii.gz");
    await this.call(`/datastore/label?image=${encodeURIComponent(image.id)}&tag=final`, { method: "PUT", body: form });
  }

  /** Adds files to what can be annotated: one file goes to the datastore, several (a DICOM series) to a session. */
  async upload(files: File[]): Promise<ImageRef> {
    const form = new FormData();
    const single = files.length === 1 && !isDICOM(files[0]!.name) ? files[0]! : null;
    if (single) {
      const id = single.name.replace(/\.(nii\.gz|nii|nrrd|nhdr|mha|png|jpg|jpeg|tif|tiff)$/i, "");
      form.set("file", single, single.name);
      const answer = await this.json<{ image: string }>(`/datastore/image?image=${encodeURIComponent(id)}`, { method: "PUT", body: form });
      return { id: answer.image, session: false };
    }
    for (const file of files) {
      form.append("files", file, file.name);
    }
    const answer = await this.json<{ session_id: string }>("/session/", { method: "PUT", body: form });
    return { id: answer.session_id, session: true };
  }

  async json<T>(path: string, init?: RequestInit): Promise<T> {
    return (await this.call(path, init)).json() as Promise<T>;
  }

  async text(path: string): Promise<string> {
    return (await this.call(path)).text();
  }

  private async call(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    const token = sessionStorage.getItem(tokenKey);
    if (token) {
      headers.set("Authorization", `Bearer ${token}`);
    }
    const answer = await fetch(this.prefix + path, { ...init, headers });
    if (!answer.ok) {
      throw new Refused(answer.status, await sentence(answer));
    }
    return answer;
  }

  private lineageQuery(image: ImageRef, lineage: Lineage): string {
    const query = new URLSearchParams({ client_id: this.client, model: lineage.model, label: lineage.label });
    return `${query}&${imageQuery(image)}`;
  }
}

function imageQuery(image: ImageRef): string {
  return `${image.session ? "session_id" : "image"}=${encodeURIComponent(image.id)}`;
}

function isDICOM(name: string): boolean {
  return /\.(dcm|dicom|ima)$/i.test(name) || !name.includes(".");
}

async function sentence(answer: Response): Promise<string> {
  const text = await answer.text();
  try {
    const { detail } = JSON.parse(text) as { detail: unknown };
    return typeof detail === "string" ? detail : JSON.stringify(detail);
  } catch {
    return text || answer.statusText;
  }
}

function browserName(): string {
  let name = localStorage.getItem(clientKey);
  if (!name) {
    name = `browser-${requestID()}`;
    localStorage.setItem(clientKey, name);
  }
  return name;
}

/** A new id for a request. Pages that did not come over TLS have no crypto.randomUUID. */
export function requestID(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

async function inflate(file: ArrayBuffer): Promise<ArrayBuffer> {
  return through(file, new DecompressionStream("gzip"));
}

/** Packs bytes with gzip. */
export async function deflate(bytes: Uint8Array<ArrayBuffer>): Promise<Blob> {
  return new Blob([await through(bytes.buffer, new CompressionStream("gzip"))]);
}

function through(bytes: ArrayBuffer, by: CompressionStream | DecompressionStream): Promise<ArrayBuffer> {
  return new Response(new Blob([bytes]).stream().pipeThrough(by as ReadableWritablePair<Uint8Array, Uint8Array>)).arrayBuffer();
}
