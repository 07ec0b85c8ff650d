// The page that logs a browser in, for viewers that send no token of their own: the server answers with a cookie.
import { element } from "./document";
import { Refused, Server } from "./protocol";

const server = Server.ofPage();
const form = element("login", HTMLFormElement);
const problem = element("problem", HTMLParagraphElement);

/** Where to go afterwards: an address of this server's own alone. */
function next(): string {
  try {
    const asked = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
    return asked.origin === location.origin ? asked.href : "/";
  } catch {
    return "/"; // what was asked for is no address
  }
}

form.onsubmit = async (event) => {
  event.preventDefault();
  problem.textContent = "";
  try {
    await server.loginBrowser(element("username", HTMLInputElement).value, element("password", HTMLInputElement).value);
    location.assign(next());
  } catch (e) {
    problem.textContent = e instanceof Refused ? e.message : "The server does not answer";
  }
};
