// The page for whoever runs the server: what it serves, what it is doing, and what it wrote down. It reads the same routes as other
// clients, every few seconds.
import { curve, element, seconds } from "./document";
import { Refused, Server } from "./protocol";

const server = Server.ofPage();
const every = 3000; // ms

interface Status {
  version: string;
  app: string;
  provider: string;
  seconds: number;
  running: number;
  waiting: number;
  queue: number;
  sessions: number;
  go_bytes: number;
}

interface Info {
  models: Record<string, { type: string; description: string; config?: { device?: string[]; profile?: string[] } }>;
  datastore: { total: number; completed: number; label_tags: Record<string, number> };
  train_stats: Record<string, TrainStats>;
}

interface TrainStats {
  epoch?: number;
  total_epochs?: number;
  best_metric?: number;
  total_time?: string;
  before?: number;
  helped?: boolean;
  version?: number;
  epochs?: { epoch: number; train_loss: number; val_mean_dice: number }[];
  start_ts?: number;
  current_time?: string;
}

interface Task {
  status?: string;
  model?: string;
  details?: unknown[];
}

/** Fills a table with rows of cells. */
function rows(id: string, cells: [string, ...unknown[]][]): void {
  element(id, HTMLTableSectionElement).replaceChildren(
    ...cells.map(([name, ...values]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(
        head,
        ...values.map((value) => {
          const cell = document.createElement("td");
          cell.textContent = String(value ?? "–");
          return cell;
        }),
      );
      return row;
    }),
  );
}

/** An answer, or null where the server has none: a task that never ran, a part that is switched off or not for this user. */
async function orNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (e) {
    if (e instanceof Refused && [401, 403, 404].includes(e.status)) {
      return null;
    }
    throw e;
  }
}

async function show(): Promise<void> {
  const [status, info, task, log] = await Promise.all([
    orNull(server.json<Status>("/scrawl/status")),
    server.json<Info>("/info/"),
    orNull(server.json<Task>("/train/")),
    orNull(server.text("/logs/?lines=200&text=true")),
  ]);
  if (status) {
    rows("server", [
      ["Version", status.version],
      ["App", status.app],
      ["Runs on", status.provider],
      ["Up for", seconds(status.seconds)],
      ["Device", status.running > 0 ? "busy" : "idle"],
      ["Waiting", `${status.waiting} of at most ${status.queue}`],
      ["Uploaded sessions", status.sessions],
      ["Memory of its own", `${(status.go_bytes / 2 ** 20).toFixed(0)} MiB`],
    ]);
  }
  const { total, completed, label_tags } = info.datastore;
  rows("studies", [["Images", total], ["Finished", `${completed} (${total > 0 ? Math.round((100 * completed) / total) : 0} %)`], ...Object.entries(label_tags).map(([tag, n]): [string, unknown] => [`Labels “${tag}”`, n])]);
  rows("models", Object.entries(info.models).map(([name, m]) => [name, m.type, m.config?.profile?.[0], m.config?.device?.[0]]));
  showTraining(info, task);
  if (log !== null) {
    const box = element("log", HTMLPreElement);
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
    box.textContent = log;
    if (atEnd) {
      box.scrollTop = box.scrollHeight;
    }
  }
}

function showTraining(info: Info, task: Task | null): void {
  const trained = Object.entries(info.train_stats).filter(([, s]) => s.epoch !== undefined);
  trained.sort(([, a], [, b]) => (b.start_ts ?? 0) - (a.start_ts ?? 0));
  const running = task?.status === "RUNNING";
  rows("training", [["State", task?.status ?? (trained.length > 0 ? "–" : "nothing trained yet")], ...(trained[0] ? figures(...trained[0]) : [])]);
  curve.draw(document.querySelector<SVGSVGElement>("#curve")!, trained[0]?.[1].epochs?.map((e) => e.val_mean_dice) ?? []);
  element("stop", HTMLButtonElement).hidden = !running;
}

/** What the newest training came to. */
function figures(name: string, s: TrainStats): [string, unknown][] {
  const all: [string, unknown][] = [
    ["Model", name],
    ["Epoch", `${s.epoch} of ${s.total_epochs ?? "?"}`],
    ["Dice before", s.before?.toFixed(3)],
    ["Best Dice", s.best_metric?.toFixed(3)],
    ["Loss", s.epochs?.at(-1)?.train_loss.toFixed(4)],
    ["Took", s.total_time ?? s.current_time],
    ["Kept", s.version !== undefined ? `version ${s.version}` : s.helped === false ? "no: it did not help" : undefined],
  ];
  return all.filter(([, value]) => value !== undefined);
}

async function loop(): Promise<void> {
  const state = element("status", HTMLSpanElement);
  for (;;) {
    try {
      await show();
      state.textContent = "";
    } catch (e) {
      state.textContent = e instanceof Refused && e.status === 401 ? "Log in on the annotation page first." : "The server does not answer; trying again…";
    }
    await new Promise((done) => setTimeout(done, every));
  }
}

element("stop", HTMLButtonElement).onclick = () =>
  server.json("/train/", { method: "DELETE" }).catch((e: unknown) => {
    element("status", HTMLSpanElement).textContent = e instanceof Refused ? e.message : "The server does not answer";
  });
void loop();
