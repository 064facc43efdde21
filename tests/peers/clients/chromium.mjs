// Chromium without a window, steered through its own debugging pipe: a page is navigated to, a stream is an EventSource, a
// post is an upload from a file field. The proxy comes from the environment, the CA from the certificate store in HOME.
import { spawn } from "node:child_process";
import { EventEmitter, on, once } from "node:events";
import { mkdtemp } from "node:fs/promises";
import path from "node:path";
import { jobs } from "./jobs.mjs";

const FLAGS = [
  "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
  // Chromium refuses its sandbox to root.
  ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
];

const profile = await mkdtemp(path.join(process.env.HOME, "chromium-"));
const child = spawn("chromium", [...FLAGS, `--user-data-dir=${profile}`, "about:blank"], {
  stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
});
const [, , , to, from] = child.stdio;
// One event per answer (its id) and one per kind of event.
const heard = new EventEmitter().setMaxListeners(0);
let rest = "";
from.setEncoding("utf8").on("data", (text) => {
  const parts = (rest + text).split("\0");
  rest = parts.pop();
  for (const { id, method, params, result, error } of parts.map((part) => JSON.parse(part))) {
    heard.emit(id ?? method, id ? { result, error } : params);
  }
});

let last = 0;
let sessionId;
async function call(method, params = {}) {
  const id = ++last;
  const answered = once(heard, id);
  to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  const [{ result, error }] = await answered;
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

async function evaluate(expression) {
  const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

const { targetInfos } = await call("Target.getTargets");
const { targetId } = targetInfos.find(({ type }) => type === "page");
({ sessionId } = await call("Target.attachToTarget", { targetId, flatten: true }));
await Promise.all(["Page.enable", "Network.enable", "Runtime.enable", "DOM.enable"].map((method) => call(method)));
await call("Page.setLifecycleEventsEnabled", { enabled: true });
await call("Runtime.addBinding", { name: "tell" });

async function* visit(url) {
  let status = 0;
  const seen = ({ type, response }) => type === "Document" && (status = response.status);
  heard.on("Network.responseReceived", seen);
  const stages = on(heard, "Page.lifecycleEvent");
  const { errorText, loaderId } = await call("Page.navigate", { url });
  if (errorText) throw new Error(errorText);
  for await (const [stage] of stages) if (stage.loaderId === loaderId && stage.name === "load") break;
  heard.off("Network.responseReceived", seen);
  yield Buffer.from(await evaluate("document.body.innerText"));
  return status;
}

async function* listen(url) {
  const told = on(heard, "Runtime.bindingCalled");
  const source = `(() => {
    const source = new EventSource(${JSON.stringify(url)});
    const pass = (event) => tell(JSON.stringify([event.type, event.data ?? ""]));
    for (const type of ["first", "last", "error"]) source.addEventListener(type, pass);
    // An EventSource comes back when its stream ends.
    source.addEventListener("last", () => source.close());
  })()`;
  await evaluate(source);
  for await (const [{ payload }] of told) {
    const [type, data] = JSON.parse(payload);
    if (type === "error") throw new Error("the event stream broke");
    yield Buffer.from(`event: ${type}\ndata: ${data}\n\n`);
    if (type === "last") return 200;
  }
}

async function* upload(url, file) {
  await evaluate(`document.body.innerHTML = "<input type=file>"`);
  const { root } = await call("DOM.getDocument");
  const { nodeId } = await call("DOM.querySelector", { nodeId: root.nodeId, selector: "input" });
  await call("DOM.setFileInputFiles", { nodeId, files: [file] });
  const [status, text] = await evaluate(`(async () => {
    const [body] = document.querySelector("input").files;
    const response = await fetch(${JSON.stringify(url)}, { method: "POST", body });
    return [response.status, await response.text()];
  })()`);
  yield Buffer.from(text);
  return status;
}

await jobs((method, url, body, kind, file) =>
  kind === "get" ? visit(url) : kind === "stream" ? listen(url) : upload(url, file), () => call("Browser.close").catch(() => {}));
