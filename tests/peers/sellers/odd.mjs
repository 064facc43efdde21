// A seller that settles for real and then misbehaves, written by hand so that each fault sits at a known point.
// Paths are /<behaviour>/<cell>[/...]; the payee follows the cell. The runner reads and steers it under /control/<cell>.
import { createServer } from "node:http";
import { demand, encode, settle } from "./exact.mjs";

const cells = new Map();

function cellState(cell) {
  if (!cells.has(cell)) {
    let open;
    const gate = new Promise((resolve) => (open = resolve));
    cells.set(cell, { gate, open, hanging: new Set(), seen: { unpaid: 0, paid: 0, settled: 0, refused: 0, hungup: 0 } });
  }
  return cells.get(cell);
}

function challenge(req, res, cell, error) {
  const offer = demand(`http://${req.headers.host}${req.url}`, cell, error);
  res.writeHead(402, { "PAYMENT-REQUIRED": offer, "content-type": "application/json", "cache-control": "no-store" });
  res.end("{}");
}

function deliver(res, cell, receipt) {
  res.writeHead(200, { "PAYMENT-RESPONSE": encode(receipt), "content-type": "application/json" });
  res.end(JSON.stringify({ cell, transaction: receipt.transaction }));
}

/** What each path does once the money has moved. */
const afterSettlement = {
  // Answers properly, but not before the runner opens the gate: what a slow seller looks like from outside.
  gate: deliver,
  // The money is gone and no answer ever comes; the socket stays open.
  hang: (res, cell) => cellState(cell).hanging.add(res),
  // Two paid pages that send the buyer to each other.
  redirect: (res, cell, receipt, req) => {
    const other = req.url.endsWith("/b") ? "a" : "b";
    res.writeHead(302, { location: `/redirect/${cell}/${other}`, "PAYMENT-RESPONSE": encode(receipt) }).end();
  },
  // Takes the money and asks again, without a receipt.
  settled402: (res, cell, receipt, req) => challenge(req, res, cell, "settlement_failed"),
};

function control(res, cell, verb) {
  const state = cellState(cell);
  if (verb === "open") state.open();
  if (verb === "drop") state.hanging.forEach((hung) => hung.destroy());
  res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(state.seen));
}

const server = createServer(async (req, res) => {
  const [behaviour, cell, verb] = req.url.split("?")[0].split("/").filter(Boolean);
  if (behaviour === "control" && cell) return control(res, cell, verb);
  if (!afterSettlement[behaviour] || !cell) return res.writeHead(404).end();
  req.resume();
  const { gate, seen } = cellState(cell);
  const payment = req.headers["payment-signature"];
  if (!payment) {
    seen.unpaid++;
    return challenge(req, res, cell);
  }
  seen.paid++;
  res.on("close", () => (seen.hungup += res.writableEnded ? 0 : 1));
  try {
    if (behaviour === "gate") await gate;
    const receipt = await settle(payment, cell);
    if (!receipt.success) {
      seen.refused++;
      return challenge(req, res, cell, receipt.errorReason ?? "settle_failed");
    }
    seen.settled++;
    afterSettlement[behaviour](res, cell, receipt, req);
  } catch (error) {
    console.error("odd seller:", error);
    res.writeHead(500).end();
  }
});

// A request that hangs on purpose must not be cut by Node's own timers.
server.requestTimeout = 0;
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ http: `http://127.0.0.1:${server.address().port}` })));
