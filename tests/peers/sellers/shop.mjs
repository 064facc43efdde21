// What the client conformance table visits: free pages beside paid ones, event streams, git. All at one origin, because a
// browser page may only talk to its own. /buy is sold by the library; streams and git by hand, since the library holds an
// answer back until it is complete.
import { cellOf, echo, events, gates, serve } from "./common.mjs";
import { demand, encode, settle } from "./exact.mjs";
import { gitBackend } from "./git.mjs";
import { librarySeller } from "./library.mjs";

const gate = gates();

/** Takes payment for a cell; answers the headers to deliver with, or has answered 402 itself and gives undefined. */
async function charge(req, res, cell) {
  const payment = req.headers["payment-signature"];
  const receipt = payment ? await settle(payment, cell) : undefined;
  if (receipt?.success) return { "PAYMENT-RESPONSE": encode(receipt) };
  const url = `${req.protocol}://${req.headers.host}${req.originalUrl}`;
  res.writeHead(402, { "PAYMENT-REQUIRED": demand(url, cell, receipt?.errorReason), "content-type": "application/json" });
  res.end("{}");
}

/** The second event waits until the runner knows that the client has seen the first: no proxy can pass by being quick. */
async function stream(res, cell, headers = {}) {
  const [first, last] = events(cell);
  res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store", ...headers });
  res.write(first);
  await gate(cell).opened;
  res.end(last);
}

/** git asks several times for one thing. Sold are: the list of branches to one that clones, and the pack that is pushed. */
function sold(price, req) {
  if (price === "fetch") return req.method === "GET" && req.originalUrl.endsWith("/info/refs?service=git-upload-pack");
  // Before a large pack git asks with four bytes whether it may.
  return price === "push" && req.method === "POST" && req.headers["content-length"] !== "4";
}

const app = librarySeller();
app.get("/free/:cell", echo);
app.get("/stream/:cell", (req, res) => stream(res, req.params.cell));
app.get("/paid-stream/:cell", async (req, res) => {
  const headers = await charge(req, res, req.params.cell);
  if (headers) await stream(res, req.params.cell, headers);
});
app.use("/git/:price/:cell", async (req, res) => {
  const { price, cell } = req.params;
  const headers = sold(price, req) ? await charge(req, res, cell) : {};
  if (headers) gitBackend(req, res, { root: process.env.SHOP_DIR, repository: cell, headers });
});
// The runner's own door: it comes straight, not through the proxy.
app.post("/control/:cell/open", (req, res) => res.json({ cell: cellOf(req.path), opened: gate(req.params.cell).open() }));
await serve(app);
