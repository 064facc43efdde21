// HTTP/1.1 and HTTP/2 on a connection that is already open, and the kinds of exchange that are bought over it.
import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import http2 from "node:http2";
import { Readable } from "node:stream";
import { acceptKey, BINARY, CLOSE, frame, frames, message, messages, PING, PONG, TEXT, whole } from "./frames.mjs";
import { authority } from "./ways.mjs";

/** One request on HTTP/1.1: `{body, answer}`, `answer` resolving to `{status, headers, stream, trailers()}`. */
function ask1(socket, { target, absolute, method, path, headers, upgrade }) {
  const at = authority(target);
  // TE concerns one connection only, and says so (RFC 9110 §10.1.4). Without an agent Node would ask for the connection to be
  // closed, and a seller that answers early then does so in the middle of the body.
  const hop = upgrade ? { connection: "upgrade", upgrade } : { connection: headers.te ? "te, keep-alive" : "keep-alive" };
  const req = http.request({
    createConnection: () => socket, method, path: absolute ? `http://${at}${path}` : path, headers: { host: at, ...headers, ...hop },
  });
  const answer = new Promise((resolve, reject) => {
    const head = (res, stream) => resolve({ status: res.statusCode, headers: res.headers, stream, trailers: () => res.trailers });
    req.on("response", (res) => head(res, res));
    req.on("upgrade", (res, stream, first) => {
      stream.unshift(first);
      head(res, stream);
    });
    req.on("error", reject);
  });
  return { body: req, answer, duplex: socket };
}

/** The same on HTTP/2. An upgrade is an extended CONNECT (RFC 8441), once the other end has said that it takes one. */
async function ask2(socket, { target, method, path, headers, upgrade }) {
  const at = `${target.scheme}://${authority(target)}`;
  // Node counts what waits to be sent as session memory, 10 MB by default: less than the body.
  const session = http2.connect(at, { createConnection: () => socket, maxSessionMemory: 64 });
  const failed = new Promise((_, reject) => session.once("error", reject).once("close", () => reject(new Error("the HTTP/2 session closed"))));
  failed.catch(() => {});
  if (upgrade) {
    await Promise.race([new Promise((resolve) => session.once("remoteSettings", resolve)), failed]);
    if (!session.remoteSettings.enableConnectProtocol) throw new Error("extended CONNECT is not offered");
  }
  const fields = upgrade ? { ":method": "CONNECT", ":protocol": upgrade } : { ":method": method };
  const stream = session.request({ ...fields, ":path": path, ...headers }, { endStream: false });
  let trailers = {};
  stream.on("trailers", (found) => (trailers = found));
  const answered = new Promise((resolve, reject) => {
    stream.once("response", (head) => resolve({ status: head[":status"], headers: head, stream, trailers: () => trailers }));
    stream.once("error", reject);
  });
  return { body: stream, answer: Promise.race([answered, failed]), duplex: stream };
}

const PIECE = 64 * 1024;
const ask = { h1: ask1, h2: ask2 };

const same = (what, got, wanted) => {
  const [a, b] = [got, wanted].map((value) => (Buffer.isBuffer(value) ? value.toString("hex").slice(0, 200) : JSON.stringify(value)));
  if (a !== b) throw new Error(`${what}: got ${a}, wanted ${b}`);
};
const digest = (bytes) => ({ length: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") });

function* pieces(payload) {
  for (let at = 0; at < payload.length; at += PIECE) yield payload.subarray(at, at + PIECE);
}

/** Sends a whole body and compares the digest that comes back. */
const echo = (method, path, headers) => ({
  request: { method, path, headers },
  // Piece by piece: TLS inside an HTTP/2 stream stalls in Node on a single write of megabytes.
  send: ({ body }, { payload = Buffer.alloc(0) }) => Readable.from(pieces(payload)).pipe(body),
  check: async ({ stream }, { cell, payload = Buffer.alloc(0) }) =>
    same("echo", JSON.parse((await whole(stream)).toString()), { cell, method, ...digest(payload) }),
});

const events = {
  request: { method: "GET", path: "sse", headers: { accept: "text/event-stream" } },
  send: ({ body }) => body.end(),
  // The second event exists only after this client said that it has the first: nobody can have waited for the end.
  async check({ stream }, { acknowledge }) {
    let seen = "";
    for await (const chunk of stream) {
      seen += chunk;
      if (seen === "data: first\n\n") await acknowledge();
    }
    same("events", seen, "data: first\n\ndata: last\n\n");
  },
};

const websocket = {
  request: { method: "GET", path: "ws", headers: { "sec-websocket-version": "13" }, upgrade: "websocket" },
  status: { h1: 101, h2: 200 },
  send: ({ body }, { version }) => (version === "h1" ? body.end() : undefined),
  async check({ stream, headers }, { cell, version, key }) {
    if (version === "h1") same("sec-websocket-accept", headers["sec-websocket-accept"], acceptKey(key));
    const incoming = frames(stream);
    const exchange = async (opcode, payload, back = opcode) => {
      stream.write(frame(opcode, payload, true));
      const got = (await incoming.next()).value;
      same("opcode", got?.opcode, back);
      same("mask", got.masked, false);
      same("frame", digest(got.payload), digest(payload));
    };
    await exchange(TEXT, Buffer.from(cell));
    await exchange(BINARY, randomBytes(70_000));
    await exchange(PING, Buffer.from("are you there"), PONG);
    await exchange(CLOSE, Buffer.from([3, 232]));
    stream.end();
    same("after the close frame", (await incoming.next()).done, true);
  },
};

const grpcHeaders = { "content-type": "application/grpc", te: "trailers" };
const unary = {
  request: { method: "POST", path: "grpc", headers: grpcHeaders },
  send: ({ body }, { cell }) => body.end(message(Buffer.from(cell))),
  async check({ stream, trailers, headers }, { cell }) {
    same("content-type", headers["content-type"], "application/grpc");
    const [reply, ...more] = messages(await whole(stream));
    same("reply", [JSON.parse(reply.toString()), more.length], [{ messages: 1, ...digest(Buffer.from(cell)) }, 0]);
    same("grpc-status", trailers()["grpc-status"], "0");
  },
};

/** A call whose messages are still to come when the price is named: it cannot be sent a second time. */
const clientStream = {
  request: { method: "POST", path: "grpc-stream", headers: grpcHeaders },
  send: ({ body }, { cell }) => body.write(message(Buffer.from(cell))),
  status: { h1: 402, h2: 402 },
  unpaid: true,
  async check({ headers }) {
    if (!/details="body_open"/.test(headers["proxy-status"])) throw new Error(`Proxy-Status is ${headers["proxy-status"]}`);
  },
};

export const KINDS = {
  GET: echo("GET", "get", {}),
  POST: echo("POST", "post", { "content-type": "application/octet-stream" }),
  SSE: events,
  WebSocket: websocket,
  gRPC: unary,
  "client-stream": clientStream,
};

const OK = { h1: 200, h2: 200 };
export const wantedStatus = (kind, version) => (KINDS[kind].status ?? OK)[version];

/**
 * One exchange on an open connection. `{status, headers, text}` when the status is not the wanted one; otherwise everything was
 * compared, and a difference is an error.
 */
export async function talk(socket, version, kind, { target, absolute, cell, payload, acknowledge, extra = {} }) {
  const { request, send, check } = KINDS[kind];
  const key = randomBytes(16).toString("base64");
  const secret = version === "h1" && request.upgrade ? { "sec-websocket-key": key } : {};
  const context = { cell, version, key, payload: kind === "POST" ? payload : undefined, acknowledge };
  const length = context.payload && { "content-length": context.payload.length };
  const headers = { ...request.headers, ...secret, ...length, ...extra };
  const asked = await ask[version](socket, { ...request, target, absolute, headers, path: `/${request.path}/${cell}` });
  send(asked, context);
  const answer = await asked.answer;
  const { status } = answer;
  if (status === wantedStatus(kind, version)) await check(answer, context);
  const text = status >= 300 ? (await whole(answer.stream)).toString("utf8").slice(0, 1000) : "";
  return { status, headers: answer.headers, text };
}
