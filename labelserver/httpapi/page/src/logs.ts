// The page that shows the end of the server's log, and follows it.
import { element } from "./document";

const { lines = "300", millis = "5000" } = document.documentElement.dataset;
const log = element("log", HTMLPreElement);
const problem = element("problem", HTMLParagraphElement);

async function load(): Promise<void> {
  try {
    const answer = await fetch(`?text=true&lines=${encodeURIComponent(lines)}`);
    if (!answer.ok) {
      throw new Error(answer.statusText);
    }
    const text = await answer.text();
    const follow = window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
    log.textContent = text;
    problem.textContent = "";
    if (follow) {
      window.scrollTo(0, document.body.scrollHeight);
    }
  } catch {
    problem.textContent = "The server does not answer; trying again…";
  }
}

void load();
setInterval(() => void load(), Number(millis));
