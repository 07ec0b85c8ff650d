// The page for whoever runs the server: what it serves, what it is doing, and what it wrote down. It reads the same routes as other
// clients, every few seconds.
import { curve, element, seconds } from "./document";
import { Refused, Server } from "./protocol";

const server = new Server(document.querySelector<HTMLMetaElement>('meta[name="api-prefix"]')!.content);
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
  models: Record<string, { type: string; description: string; config?: { device?: string[]; profile?: string[] }; version?: string | number }>;
  datastore: { total: number; completed: number; label_tags: Record<string, number> };
  train_stats: Record<string, TrainStats>;
}

interface TrainStats {
  epoch?: number;
  total_epochs?: number;
  best_metric?: number;
  total_time?: string;
  eval?: { key_metric_name?: string };
  history?: number[];
}

interface Task {
  status?: string;
  model?: string;
  details?: unknown[];
}

/** Fills a table with rows of cells. */
function rows(id: string, cells: [string, ...unknown[]][]): void {
  element(id, HTMLTableElement).replaceChildren(
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
  rows("models", Object.entries(info.models).map(([name, m]) => [name, m.type, m.config?.profile?.[0], m.version ?? "shipped"]));
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
  const [name, stats] = Object.entries(info.train_stats).find(([, s]) => s.epoch !== undefined) ?? [null, null];
  const running = task?.status === "RUNNING";
  rows("training", stats && name ? [["Model", name], ["State", task?.status ?? "–"], ["Epoch", `${stats.epoch} of ${stats.total_epochs ?? "?"}`], ["Best Dice", stats.best_metric?.toFixed(3)], ["Took", stats.total_time]] : [["State", task?.status ?? "nothing trained yet"]]);
  curve.draw(document.querySelector<SVGSVGElement>("#curve")!, stats?.history ?? []);
  element("stop", HTMLButtonElement).hidden = !running;
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

element("stop", HTMLButtonElement).onclick = () => void server.json("/train/", { method: "DELETE" });
void loop();
