// What the three library sellers share: one payee per cell, an echo that proves byte identity, http and https.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { getAddress } from "viem";

export const NETWORK = "eip155:84532";
export const PRICE = "$0.01";
export const PRICE_ATOMIC = 10_000n;

/** Every cell of the matrix is paid to an address of its own, so the chain itself tells the cells apart. */
export const payeeOf = (cell) =>
  getAddress(`0x${createHash("sha256").update(`tollpass-peer:${cell}`).digest("hex").slice(-40)}`);

/** The last path segment names the cell. */
export const cellOf = (path) => path.split("?")[0].split("/").filter(Boolean).at(-1);

/** Answers with length and digest of the body that arrived, streaming: 10 MiB must not need a body parser. */
export async function echo(req, res) {
  const hash = createHash("sha256");
  let length = 0;
  for await (const chunk of req) {
    hash.update(chunk);
    length += chunk.length;
  }
  res.json({ cell: cellOf(req.path), method: req.method, length, sha256: hash.digest("hex") });
}

/** What the event stream of a cell says: the second only after the runner has opened the gate. */
export const events = (cell) => [`event: first\ndata: ${cell}\n\n`, `event: last\ndata: ${cell}\n\n`];

/** One gate per cell, shut at first: `opened` is a promise, `open()` opens. */
export function gates() {
  const known = new Map();
  return (cell) => {
    if (!known.has(cell)) {
      let open;
      const opened = new Promise((resolve) => (open = resolve));
      known.set(cell, { opened, open: () => (open(), true) });
    }
    return known.get(cell);
  };
}

export const listen = (server) =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

/** Serves one handler over http and https and prints where, as one JSON line. */
export async function serve(handler) {
  const tls = { key: readFileSync(process.env.SELLER_KEY), cert: readFileSync(process.env.SELLER_CERT) };
  const ports = await Promise.all([listen(http.createServer(handler)), listen(https.createServer(tls, handler))]);
  console.log(JSON.stringify({ http: `http://127.0.0.1:${ports[0]}`, https: `https://localhost:${ports[1]}` }));
}
