// Every way into the proxy x HTTP version x kind of exchange: delivered once, paid once. Started by ways.mjs, in a namespace
// where that is possible, with what to do as its argument; says what it found to its parent.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { makeBody } from "../clients/body.mjs";
import { KINDS } from "../clients/talk.mjs";
import { WAYS } from "../clients/ways.mjs";
import { OUTSIDE, prepare, redirect } from "../rig/namespace.mjs";
import { startRig } from "../rig/rig.mjs";
import { startTollpass } from "../rig/tollpass.mjs";
import { inside } from "./apart.mjs";
import { books } from "./books.mjs";
import { table } from "./report.mjs";
import { buy } from "./ways-cell.mjs";
import { socksRules, transparentRules } from "./ways-rules.mjs";

const VERSIONS = ["h1", "h2"];
/** After this many cells without any answer the rest would tell nothing new. */
const SILENT = 6;
const TOKEN = "tp_ways";

async function row(context, { way, scheme, version, unpaid }) {
  const cells = [];
  for (const kind of Object.keys(KINDS)) {
    cells.push(await (KINDS[kind].unpaid ? unpaid : buy(context, { way, scheme, version, kind })));
    if (!context.proxy.alive()) throw new Error("tollpass ended in the middle of the table");
  }
  context.silent += cells.filter(({ late }) => late).length;
  const spoken = [...new Set(cells.map(({ seen }) => seen.version).filter(Boolean))].join(", ");
  return [way, scheme, version, ...cells.map((c) => `${c.mark} ${c.status} x${c.count}`), spoken];
}

async function wholeTable(context, ways) {
  const all = ways.flatMap((way) => WAYS[way].schemes.flatMap((scheme) => VERSIONS.map((version) => ({ way, scheme, version }))));
  // What is refused is refused after a wait: all rows wait at the same time.
  const [refused] = Object.keys(KINDS).filter((kind) => KINDS[kind].unpaid);
  for (const which of all) which.unpaid = buy(context, { ...which, kind: refused });
  const rows = [["way", "target", "agent", ...Object.keys(KINDS), "seller saw HTTP/"]];
  for (const which of all) {
    rows.push(await row(context, which));
    console.error(rows.at(-1).join("  "));
    if (context.silent >= SILENT) throw new Error(`${context.silent} cells got no answer at all: the rest of the table was not run`);
  }
  context.report.title("Ways in: answer and number of transfers on the chain (POST is 10 MiB)");
  table(rows);
}

const portOf = (address) => Number(address.slice(address.lastIndexOf(":") + 1));

/** A proxy with these listeners, and the context in which cells are bought through it. */
async function listening(base, bin, dir, listen) {
  await mkdir(dir, { recursive: true });
  await writeFile(path.join(dir, "seller-ca.pem"), await readFile(base.rig.tls.ca));
  const hash = createHash("sha256").update(TOKEN).digest("hex");
  await writeFile(path.join(dir, "agents.yaml"), `agents: { peer-bot: ["sha256:${hash}"] }\n`);
  const named = { hosts: Object.keys(OUTSIDE), ports: Object.values(base.rig.ways.ports) };
  const proxy = await startTollpass(bin, base.rig, undefined, { dir, listen, named, tokens: "file:agents.yaml" });
  const at = { proxy: proxy.proxy, https: proxy.https, socks: proxy.socks, ca: await readFile(proxy.ca), credentials: { user: "peer-bot", password: TOKEN } };
  /** Redirects the sellers' ports, and these, to this proxy. */
  const intercept = (...further) => redirect([80, 443, ...Object.values(base.rig.ways.ports), ...further], portOf(proxy.transparent));
  if (proxy.transparent) intercept();
  return { ...base, proxy, at, intercept, silent: 0 };
}

/** Listeners of one family only: what the table saw on a listener for both has to hold on them too. */
async function oneFamily(base, bin, dir, family) {
  const address = family === "v4" ? "127.0.0.1:0" : "[::1]:0";
  const context = await listening(base, bin, path.join(dir, family), { transparent: address });
  const cells = [];
  for (const scheme of WAYS[`transparent-${family}`].schemes) {
    for (const version of VERSIONS) {
      const { mark, status, count } = await buy(context, { way: `transparent-${family}`, scheme, version, kind: "GET", name: "alone" });
      cells.push(`${mark} ${status} x${count}`);
    }
  }
  await context.proxy.stop();
  return [address, ...cells];
}

async function main({ bin, only, why }, report, kept) {
  // First of all: without this nothing in a new namespace reaches anything.
  const reason = why ?? prepare();
  const rig = (kept.rig = await startRig({ only: ["ways"] }));
  const wanted = Object.keys(WAYS).filter((way) => way !== "direct" && (!only || only.includes(way)));
  const ways = wanted.filter((way) => {
    const impossible = reason && way.startsWith("transparent");
    if (impossible) report.skip(way, reason);
    return !impossible;
  });
  const [https, socks, transparent] = ["https-proxy", "socks5", "transparent"].map((kind) => ways.some((way) => way.startsWith(kind)));
  const target = (way, scheme) => {
    const host = reason ? "localhost" : way === "transparent-v6" ? "seller6.test" : "seller4.test";
    return { scheme, host, port: rig.ways.ports[scheme], address: OUTSIDE[host] };
  };
  const base = { rig, report, target, payload: await readFile((await makeBody(rig.dir)).file), sellerCa: await readFile(rig.tls.ca) };
  const listen = { ...(https ? { https: "127.0.0.1:0" } : {}), ...(socks ? { socks: "127.0.0.1:0" } : {}), ...(transparent ? { transparent: "[::]:0" } : {}) };
  const context = await listening(base, bin, path.join(rig.dir, "all"), listen);
  try {
    await wholeTable(context, ways);
    if (socks) await socksRules(context);
    if (transparent) await transparentRules(context);
    await books(context);
  } finally {
    await context.proxy.stop();
    kept.log = context.proxy.proc.stderr;
  }
  if (transparent) {
    const rows = [["transparent listener", ...["http", "https"].flatMap((s) => VERSIONS.map((v) => `${s} ${v}`))]];
    for (const family of ["v4", "v6"]) {
      if (ways.includes(`transparent-${family}`)) rows.push(await oneFamily(base, bin, rig.dir, family));
    }
    report.title("Transparent listeners of one family: GET");
    table(rows);
  }
}

await inside("ways", main);
