// What the table cannot show: who is let in by SOCKS5, and what a transparent listener must not do.
import net from "node:net";
import { secure, socks5, tcp } from "../clients/ways.mjs";
import { begun, OUTSIDE } from "../rig/namespace.mjs";
import { payeeOf } from "../sellers/common.mjs";
import { table } from "./report.mjs";
import { buy, within } from "./ways-cell.mjs";

/** Runs the rules one by one; each gives `{good, saw}`. */
async function hold(context, title, rules) {
  const rows = [["rule", "", "saw"]];
  for (const [name, rule] of Object.entries(rules)) {
    const { good, saw } = await rule(context).catch((error) => ({ good: false, saw: error.message }));
    rows.push([name, context.report.check(name, good, saw), saw]);
  }
  context.report.title(title);
  table(rows);
}

/** What an attempt that has to fail failed with. */
const refusal = (attempt) => attempt.then(() => "it was let in", (error) => error.message);
const refusedWith = (pattern) => async (attempt) => {
  const saw = await refusal(attempt);
  return { good: pattern.test(saw), saw };
};

const target = (context, scheme = "http") => context.target("socks5", scheme);
const socks = (context, options, to = target(context)) => within(() => socks5(context.at, to, options), () => {});
const bought = async (context, cell) => {
  const { mark, status, count, text } = await buy(context, { scheme: "http", version: "h1", kind: "GET", ...cell });
  return { good: mark === "ok", saw: `${status} x${count} ${text.slice(0, 100)}` };
};

export const socksRules = (context) =>
  hold(context, "SOCKS5: who is let in", {
    "socks5: a wrong token is refused": ({ at }) => refusedWith(/credentials refused/)(socks(context, { ...at.credentials, password: "tp_other" })),
    "socks5: an unknown agent is refused": ({ at }) => refusedWith(/credentials refused/)(socks(context, { ...at.credentials, user: "nobody" })),
    // A client that has credentials offers both; taking the lesser would name the wrong agent.
    "socks5: credentials that are offered are asked for": ({ at }) =>
      refusedWith(/credentials refused/)(socks(context, { ...at.credentials, password: "tp_other", methods: [0, 1, 2] })),
    "socks5: no common method": () => refusedWith(/no method agreed \(255\)/)(socks(context, { methods: [1] })),
    "socks5: BIND is refused": () => refusedWith(/\(7\)/)(socks(context, { command: 2 })),
    "socks5: UDP is refused": () => refusedWith(/\(7\)/)(socks(context, { command: 3 })),
    "socks5: an IPv4 address": () => bought(context, { way: "socks5", name: "ipv4", target: { ...target(context), host: "127.0.0.1" } }),
    "socks5: an IPv6 address": () => bought(context, { way: "socks5", name: "ipv6", target: { ...target(context), host: "::1" } }),
  });

/** Sends bytes and reads what comes until the connection is closed. */
async function exchange(socket, bytes) {
  socket.write(bytes);
  let seen = "";
  socket.on("data", (chunk) => (seen += chunk.toString("latin1")));
  await new Promise((resolve) => socket.on("error", resolve).once("close", resolve));
  return seen;
}

const get = (path, host) => `GET ${path} HTTP/1.1\r\n${host === undefined ? "" : `Host: ${host}\r\n`}Connection: close\r\n\r\n`;
const statusOf = (seen) => seen.match(/^HTTP\/1\.1 (\d+)/)?.[1] ?? (seen === "" ? "closed" : seen.slice(0, 60));

/** One request to a page that costs something: its status, and how often the seller was asked and paid. */
async function attempt({ rig }, open, cell, host) {
  const before = await begun();
  const status = statusOf(await within(open, (socket) => exchange(socket, get(`/get/${cell}`, host))));
  const seen = await (await fetch(`${rig.ways.http}/control/${cell}`)).json();
  const { count } = await rig.chain.transfersTo(payeeOf(cell));
  const dials = (await begun()) - before;
  return { status, dials, saw: `${status}, seller asked ${seen.unpaid + seen.paid}x, paid ${count}x, ${dials} connections to the listener`, asked: seen.unpaid + seen.paid, count };
}

/** A listener nobody should reach, and how many did. */
async function decoy() {
  const server = net.createServer((socket) => (server.reached++, socket.end("220 who goes there\r\n")));
  server.reached = 0;
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

const OTHER = "203.0.113.77";
const outside = (port) => () => tcp(OUTSIDE["seller4.test"], port);
const direct = ({ proxy }) => () => tcp("127.0.0.1", Number(proxy.transparent.split(":").at(-1)));
const tls = (port, { at, servername }) => async () => secure(await outside(port)(), { ca: at.ca, servername, version: "h1" });

const RULES = {
  "transparent: a connection that was not redirected is refused": async (context) => {
    const { port } = context.target("transparent-v4", "http");
    const got = await attempt(context, direct(context), "ways-rule-direct", `seller4.test:${port}`);
    return { ...got, good: !/^(1|2|402)/.test(got.status) && got.asked === 0 && got.dials === 1 };
  },
  "transparent: the listener cannot be reached through the proxy": async (context) => {
    const before = await begun();
    const port = context.proxy.transparent.split(":").at(-1);
    const ask = (host) => within(() => tcp(...context.proxy.proxy.split(":")), (s) => exchange(s, get(`http://${host}:${port}/`, `${host}:${port}`)));
    const seen = await Promise.all(["127.0.0.1", "[::1]", "seller4.test"].map(ask));
    const dials = (await begun()) - before;
    const good = seen.every((s) => statusOf(s) === "403" && s.includes("forbidden_address")) && dials === 0;
    return { good, saw: `${seen.map(statusOf).join(", ")}, ${dials} connections` };
  },
  // The rules of this namespace lead the proxy's own connections back to it: an operator's mistake, which has to end.
  "transparent: a redirect that leads back to the proxy ends (http)": async (context) => {
    const { port } = context.target("transparent-v4", "http");
    const got = await attempt(context, outside(port), "ways-rule-loop", `loop.test:${port}`);
    return { ...got, good: /^(4|5)/.test(got.status) && got.asked === 0 && got.dials <= 3 };
  },
  "transparent: a redirect that leads back to the proxy ends (TLS)": async (context) => {
    const { port } = context.target("transparent-v4", "https");
    const before = await begun();
    const saw = await refusal(within(tls(port, { ...context, servername: "loop.test" }), () => {}));
    const dials = (await begun()) - before;
    return { good: saw !== "it was let in" && dials <= 3, saw: `${saw}, ${dials} connections` };
  },
  "transparent: the name leads, not the address": async (context) => {
    const cell = { way: "transparent-v4", scheme: "https", version: "h2", name: "elsewhere" };
    return bought(context, { ...cell, target: { ...context.target("transparent-v4", "https"), address: OTHER } });
  },
  "transparent: a Host without a port gets the port of the connection": async (context) => {
    const { port } = context.target("transparent-v4", "http");
    const got = await attempt(context, outside(port), "ways-rule-portless", "seller4.test");
    return { ...got, good: got.status === "200" && got.count === 1 };
  },
  "transparent: a port in Host leads nowhere": async (context) => {
    const trap = await decoy();
    const { port } = context.target("transparent-v4", "http");
    const got = await attempt(context, outside(port), "ways-rule-port", `seller4.test:${trap.address().port}`);
    trap.close();
    return { good: trap.reached === 0, saw: `${got.saw}, ${trap.reached} connections to that port` };
  },
  "transparent: a request without Host is refused": async (context) => {
    const { port } = context.target("transparent-v4", "http");
    const got = await attempt(context, outside(port), "ways-rule-hostless", undefined);
    return { ...got, good: got.status === "400" && got.asked === 0 };
  },
  "transparent: Host has to be the name of the handshake": async (context) => {
    const { port } = context.target("transparent-v4", "https");
    const open = tls(port, { ...context, servername: "seller4.test" });
    const got = await attempt(context, open, "ways-rule-mismatch", `seller6.test:${port}`);
    return { ...got, good: got.status === "421" && got.asked === 0 };
  },
  "transparent: TLS without a name is refused": async (context) => {
    const { port } = context.target("transparent-v4", "https");
    const before = await begun();
    const saw = await refusal(within(tls(port, { ...context, servername: "" }), () => {}));
    return { good: saw !== "it was let in" && !/nothing after/.test(saw) && (await begun()) - before === 1, saw };
  },
  "transparent: TLS to a name that cannot be paid passes untouched": async (context) => {
    const { port } = context.target("transparent-v4", "https");
    // The seller's certificate is not good for this name; that it comes at all is what is asked here.
    const saw = await refusal(within(tls(port, { at: { ca: context.sellerCa }, servername: "other.test" }), () => {}));
    return { good: /altnames.*seller4\.test/s.test(saw), saw };
  },
  "transparent: who waits for the server to speak is refused in time": async (context) => {
    const trap = await decoy();
    const { port } = trap.address();
    context.intercept(port);
    const started = Date.now();
    const seen = await within(outside(port), (socket) => exchange(socket, "")).finally(() => trap.close());
    const dials = await begun();
    const good = seen === "" && trap.reached === 0 && dials === 1;
    return { good, saw: `${seen === "" ? "closed" : seen} after ${((Date.now() - started) / 1000).toFixed(1)} s, ${trap.reached} reached the server, ${dials} connections` };
  },
};

export const transparentRules = (context) => hold(context, "Transparent interception: what is refused", RULES);
