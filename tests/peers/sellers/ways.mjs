// A seller for the table of ways in: HTTP/1.1 and HTTP/2, over TLS by ALPN and in the clear by prior knowledge, on the same
// two ports over IPv4 and IPv6. Paths are /<kind>/<cell>; the runner reads and steers a cell under /control/<cell>.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { acceptKey, CLOSE, frame, frames, message, messages, PING, PONG, whole } from "../clients/frames.mjs";
import { demand, encode, settle } from "./exact.mjs";

const cells = new Map();

function cellState(cell) {
  if (!cells.has(cell)) {
    let acknowledge;
    const acknowledged = new Promise((resolve) => (acknowledge = resolve));
    cells.set(cell, { acknowledged, acknowledge, seen: { unpaid: 0, paid: 0, settled: 0, version: "", host: "" } });
  }
  return cells.get(cell);
}

const digest = (bytes) => ({ length: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") });
const sendJson = (res, value) => res.end(JSON.stringify(value));

async function echo(req, res, headers, cell) {
  const body = await whole(req);
  res.writeHead(200, { ...headers, "content-type": "application/json" });
  sendJson(res, { cell, method: req.method, ...digest(body) });
}

/** The first event, and no more until the client says that it has it: who holds events back never gets the second. */
async function events(req, res, headers, cell) {
  req.resume();
  res.writeHead(200, { ...headers, "content-type": "text/event-stream", "cache-control": "no-store" });
  res.write("data: first\n\n");
  await cellState(cell).acknowledged;
  res.end("data: last\n\n");
}

/** One answer to all messages of the call, with the status in the trailers as gRPC has it. */
async function grpc(req, res, headers) {
  // Servers take it for proof that every proxy on the way passes trailers on.
  if (req.headers.te !== "trailers") throw new Error(`TE is ${req.headers.te}`);
  const asked = messages(await whole(req));
  const fields = { ...headers, "content-type": "application/grpc" };
  // HTTP/1.1 has to announce what comes in the trailers.
  res.writeHead(200, req.httpVersionMajor === 1 ? { ...fields, trailer: "grpc-status, grpc-message" } : fields);
  res.write(message(Buffer.from(JSON.stringify({ messages: asked.length, ...digest(Buffer.concat(asked)) }))));
  res.addTrailers({ "grpc-status": "0", "grpc-message": "" });
  res.end();
}

const KINDS = { get: echo, post: echo, sse: events, grpc, "grpc-stream": grpc };

const parts = (path) => path.split("?")[0].split("/").filter(Boolean);
const scheme = (req) => req.headers[":scheme"] ?? (req.socket.encrypted ? "https" : "http");
const host = (req) => req.headers[":authority"] ?? req.headers.host;

/** What stands before every answer: undefined and a 402 sent through `refuse`, or the fields that confirm the payment. */
async function toll(req, cell, refuse) {
  const { seen } = cellState(cell);
  const ask = (error) => {
    const offer = demand(`${scheme(req)}://${host(req)}${req.url}`, cell, error);
    return refuse(402, { "PAYMENT-REQUIRED": offer, "content-type": "application/json", "cache-control": "no-store" });
  };
  const payment = req.headers["payment-signature"];
  if (!payment) {
    seen.unpaid++;
    return ask();
  }
  seen.paid++;
  seen.version = req.httpVersion;
  seen.host = host(req);
  const receipt = await settle(payment, cell);
  if (!receipt.success) return ask(receipt.errorReason ?? "settle_failed");
  seen.settled++;
  return { "PAYMENT-RESPONSE": encode(receipt) };
}

function control(res, cell, verb) {
  const { acknowledge, seen } = cellState(cell);
  if (verb === "ack") acknowledge();
  res.writeHead(200, { "content-type": "application/json" });
  sendJson(res, seen);
}

async function serve(req, res) {
  const [kind, cell, verb] = parts(req.url);
  if (kind === "control" && cell) return control(res, cell, verb);
  const refuse = (status, headers) => {
    req.resume();
    res.writeHead(status, headers);
    res.end("{}");
  };
  if (!KINDS[kind] || !cell) return refuse(404, {});
  const paid = await toll(req, cell, refuse);
  if (paid) await KINDS[kind](req, res, paid, cell);
}

/** Sends every message back, answers pings, and closes when the client does. */
async function talk(stream) {
  for await (const { opcode, payload, masked } of frames(stream)) {
    if (!masked) throw new Error("a client's frame is not masked");
    stream.write(frame(opcode === PING ? PONG : opcode, payload, false));
    if (opcode === CLOSE) break;
  }
  stream.end();
}

/** `Upgrade: websocket` on HTTP/1.1. */
async function upgrade(req, socket, head) {
  const cell = parts(req.url)[1];
  const send = (status, headers, body) => {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${lines.join("")}\r\n${body}`);
  };
  const paid = await toll(req, cell, (status, headers) => {
    send(status, { ...headers, "content-length": 2, connection: "close" }, "{}");
    socket.end();
  });
  if (!paid) return;
  const accept = acceptKey(req.headers["sec-websocket-key"]);
  send(101, { ...paid, connection: "upgrade", upgrade: "websocket", "sec-websocket-accept": accept }, "");
  socket.unshift(head);
  await talk(socket);
}

/** Extended CONNECT (RFC 8441) on HTTP/2. */
async function connect(req, res) {
  const { stream } = res;
  if (req.headers[":protocol"] !== "websocket") return stream.respond({ ":status": 501 }, { endStream: true });
  const paid = await toll(req, parts(req.url)[1], (status, headers) => stream.respond({ ":status": status, ...lower(headers) }, { endStream: true }));
  if (!paid) return;
  stream.respond({ ":status": 200, ...lower(paid) });
  await talk(stream);
}

const lower = (headers) => Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));

const complain = (what) => (error) => console.error("ways seller:", what, error);
const guarded = (handler) => (req, second, head) => {
  second.on("error", complain("connection"));
  handler(req, second, head).catch((error) => {
    complain(req.url)(error);
    (second.stream ?? second).destroy();
  });
};

const one = http.createServer(guarded(serve)).on("upgrade", guarded(upgrade));
const two = http2.createServer({ settings: { enableConnectProtocol: true } }, guarded(serve)).on("connect", guarded(connect));
two.on("sessionError", complain("session"));
// A request that waits on purpose must not be cut by Node's own timers.
one.requestTimeout = 0;

/** In the clear the first bytes tell: only the preface of HTTP/2 begins with PRI. */
function plain(socket) {
  socket.on("error", complain("socket"));
  socket.once("data", (first) => {
    // Paused, or the servers would not find the bytes that are put back.
    socket.pause();
    socket.unshift(first);
    const server = first.subarray(0, 3).toString("latin1") === "PRI" ? two : one;
    server.emit("connection", socket);
    if (server === one) socket.resume();
  });
}

const secure = (socket) => (socket.alpnProtocol === "h2" ? two : one).emit("connection", socket);
const keys = { key: readFileSync(process.env.SELLER_KEY), cert: readFileSync(process.env.SELLER_CERT) };
const makers = {
  http: () => net.createServer(plain),
  https: () => tls.createServer({ ...keys, ALPNProtocols: ["h2", "http/1.1"] }, secure).on("tlsClientError", complain("TLS")),
};

const listen = (server, port, address) =>
  new Promise((resolve, reject) => server.once("error", reject).listen(port, address, () => resolve(server.address().port)));

const ports = {};
for (const [name, make] of Object.entries(makers)) {
  ports[name] = await listen(make(), 0, "127.0.0.1");
  // The same port over IPv6, where there is IPv6.
  await listen(make(), ports[name], "::1").catch(complain("no IPv6"));
}
console.log(JSON.stringify({ http: `http://127.0.0.1:${ports.http}`, https: `https://localhost:${ports.https}`, ports }));
