// One table of the client conformance: every client, over http and https, gets a page unpaid and paid, sees the first event of a
// stream unpaid and paid before the second one exists, and posts 10 MiB through a paid retry. The chain counts each cell.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import http2 from "node:http2";
import path from "node:path";
import { promisify } from "node:util";
import { CLIENTS, envOf, run } from "../clients/clients.mjs";
import { SHOP_NAME } from "../rig/ca.mjs";
import { events, payeeOf, PRICE_ATOMIC } from "../sellers/common.mjs";
import { table } from "./report.mjs";

// Two cores: more would only wait for each other.
const AT_ONCE = 3;
export const EXPLICIT = "explicit";
export const REDIRECTED = "redirected";
export const SCHEMES = ["http", "https"];
export const COLUMNS = { page: "page", stream: "stream", post: "POST 10 MiB" };
const ALL = SCHEMES.flatMap((scheme) => Object.keys(COLUMNS).map((column) => [scheme, column]));

const PAGE = "the page of a repository\n";
const exec = promisify(execFile);
const git = (...args) => exec("git", args, { maxBuffer: 32 << 20, encoding: "buffer" });

// One job of a client: in which column it counts, what it costs, and whether the answer is the right one.
const echo = (method, wanted) => ({ cell }) => ({ body }) => {
  const said = JSON.parse(body);
  return said.cell === cell && said.method === method && said.length === wanted.length && said.sha256 === wanted.sha256;
};
const streamed = ({ cell }) => ({ body }) => body === events(cell).join("");
const EMPTY = { length: 0, sha256: createHash("sha256").digest("hex") };

/** What is asked for at each kind of shop: `[name, column, kind, path, right]`; a name that starts with `paid` costs the price. */
const LISTS = {
  http: (body) => [
    ["page", "page", "get", "/free", echo("GET", EMPTY)],
    ["paid-page", "page", "get", "/buy", echo("GET", EMPTY)],
    ["stream", "stream", "stream", "/stream", streamed],
    ["paid-stream", "stream", "stream", "/paid-stream", streamed],
    ["paid-post", "post", "post", "/buy", echo("POST", body)],
  ],
  git: (body, dir) => [
    ["page", "page", "get", "/git/free", () => ({ body }) => body === PAGE],
    ["paid-page", "page", "get", "/git/fetch", () => ({ body }) => body === PAGE],
    ["paid-post", "post", "post", "/git/push", ({ cell }) => async () => {
      const { stdout } = await git("--git-dir", path.join(dir, cell), "cat-file", "blob", "pushed:body");
      return createHash("sha256").update(stdout).digest("hex") === body.sha256;
    }],
  ],
  grpc: (body) => [
    ["page", "page", "get", "/free.Echo", echo("POST", EMPTY)],
    ["paid-page", "page", "get", "/paid.Echo", echo("POST", EMPTY)],
    ["stream", "stream", "stream", "/free.Watch", streamed],
    ["paid-stream", "stream", "stream", "/paid.Watch", streamed],
    ["paid-post", "post", "post", "/paid.Echo", echo("POST", body)],
  ],
};

/** The jobs of one client over one scheme, in cells whose names begin with `mode`. */
export function jobsOf({ rig, body, mode, host = SHOP_NAME }, client, scheme) {
  const speaks = CLIENTS[client].speaks ?? "http";
  const { port } = new URL((speaks === "grpc" ? rig.grpc : rig.shop)[scheme]);
  return LISTS[speaks](body, rig.dir).map(([name, column, kind, at, right]) => {
    const cell = `${mode}-${client}-${scheme}-${name}`;
    const url = `${scheme}://${host}:${port}${at}/${cell}`;
    return { cell, column, kind, scheme, url, speaks, price: name.startsWith("paid") ? PRICE_ATOMIC : 0n, right: right({ cell }) };
  });
}

/** Lets the second event of a stream out. Straight to the seller: only the runner decides. */
export async function openGate({ rig }, { cell, speaks }) {
  const control = `/control/${cell}/open`;
  if (speaks !== "grpc") return fetch(`${rig.shop.http}${control}`, { method: "POST" });
  const session = http2.connect(rig.grpc.http);
  await new Promise((resolve, reject) => session.on("error", reject).request({ ":path": control }).on("response", resolve).resume());
  session.close();
}

/** The repositories that git clones from and pushes to. */
async function repositories({ rig }, jobs) {
  const template = path.join(rig.dir, "template");
  const work = ["-C", template, "-c", "user.name=peer", "-c", `user.email=peer@${SHOP_NAME}`];
  await git("init", "-q", template);
  await writeFile(path.join(template, "page"), PAGE);
  await git(...work, "add", "page");
  await git(...work, "commit", "-q", "-m", "page");
  for (const { kind, cell } of jobs) {
    const from = kind === "get" ? ["clone", "-q", "--bare", template] : ["init", "-q", "--bare"];
    await git(...from, path.join(rig.dir, cell));
  }
}

async function judge({ rig, report }, job, answer) {
  const paid = await rig.chain.transfersTo(payeeOf(job.cell));
  const counted = job.price ? paid.count === 1 && paid.value === job.price : paid.count === 0;
  let right = false;
  try {
    right = answer.status === 200 && (await job.right(answer));
  } catch (error) {
    answer.problem ??= `unreadable: ${error.message}`;
  }
  const detail = `status ${answer.status}, ${paid.count} transfers, ${answer.problem ?? answer.body.slice(0, 300)}`;
  return { ...job, count: paid.count, mark: report.check(job.cell, right && counted, detail) };
}

/** One client through all its jobs: its row. */
async function row(context, client) {
  const { label, version, deaf } = CLIENTS[client];
  let versions;
  try {
    versions = await version();
  } catch (error) {
    context.report.skip(`client ${label}`, `not installed: ${error.message.split("\n")[0]}`);
    return [label, "", ...ALL.map(() => "skipped"), ""];
  }
  if (deaf && context.mode === EXPLICIT) return [label, versions, ...ALL.map(() => "n/a"), ""];
  const jobs = SCHEMES.flatMap((scheme) => jobsOf(context, client, scheme));
  if (CLIENTS[client].speaks === "git") await repositories(context, jobs);
  const onFirst = (number) => openGate(context, jobs[number]);
  const answers = await run(client, envOf(client, context.env), jobs, context.body.file, { onFirst, before: context.before });
  const judged = await Promise.all(jobs.map((job, number) => judge(context, job, answers[number])));
  const mark = (scheme, column) => {
    const marks = judged.filter((job) => job.scheme === scheme && job.column === column).map((job) => job.mark);
    return marks.length === 0 ? "n/a" : marks.find((m) => m !== "ok") ?? "ok";
  };
  const cells = ALL.map(([scheme, column]) => mark(scheme, column));
  const counted = `${judged.reduce((sum, { count }) => sum + count, 0)} of ${judged.filter(({ price }) => price).length}`;
  console.error([label, versions, ...cells, counted].join("  "));
  return [label, versions, ...cells, counted];
}

// Why a cell says n/a.
export const NO_STREAM = "git has no event streams";
export const DEAF = "Node 20 ignores proxy variables, in undici too";

const TITLES = {
  [EXPLICIT]: "Clients through the explicit proxy",
  [REDIRECTED]: "Clients in transparent mode, without any proxy variable",
};

/** `mode` is how the clients come to the proxy; gives back the rows. */
export async function clientTable(context, only) {
  const { proxy, report, mode } = context;
  const chosen = Object.keys(CLIENTS).filter((name) => !only || only.includes(name));
  const header = ["client", "version", ...ALL.map(([scheme, column]) => `${scheme} ${COLUMNS[column]}`), "transfers"];
  const rows = [header, ...chosen.map(() => undefined)];
  let next = 0;
  const worker = async () => {
    while (next < chosen.length) {
      const mine = next++;
      rows[mine + 1] = await row(context, chosen[mine]);
      if (!proxy.alive()) throw new Error("tollpass ended in the middle of the clients");
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  report.title(`${TITLES[mode]} (page, stream: one unpaid and one paid each; transfers: on the chain, of those wanted)`);
  table(rows);
  console.log(`n/a: ${[NO_STREAM, ...(mode === EXPLICIT ? [DEAF] : [])].join("; ")}.`);
  return rows;
}
