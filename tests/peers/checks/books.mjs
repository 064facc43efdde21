// The proxy's own word against the chain, after everything else: metrics and ledger must tell the same count and sum.
import { until } from "../rig/process.mjs";
import { table } from "./report.mjs";

/** Samples of one metric: `[{labels, value}]`. */
export function samples(text, name) {
  return text.split("\n").flatMap((line) => {
    const found = line.match(/^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/);
    if (!found || found[1] !== name) return [];
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((m) => [m[1], m[2]]));
    return [{ labels, value: Number(found[3]) }];
  });
}

// These never reached a seller with a signature, so no transfer can stand against them.
const NEVER_SENT = new Set(["void", "refused", "held"]);
const sum = (list) => list.reduce((total, { value }) => total + value, 0);
const atomic = (dollars) => BigInt(Math.round(Number(dollars) * 1e6));

function fromMetrics(text) {
  const payments = samples(text, "tollpass_payments_total").filter(({ labels }) => !NEVER_SENT.has(labels.outcome));
  const outcomes = payments.map(({ labels, value }) => `${labels.outcome} ${value}`).join(", ");
  return { count: sum(payments), value: atomic(sum(samples(text, "tollpass_spend_usd_total"))), note: outcomes };
}

/** The only place that knows the shape of `ledger show --json`. */
function fromLedger({ purchases, totals }) {
  const sent = ({ state }) => !NEVER_SENT.has(state);
  const value = totals.filter(sent).reduce((total, { usd }) => total + atomic(usd), 0n);
  const states = totals.map(({ state, count }) => `${state} ${count}`).join(", ");
  return { count: purchases.filter(sent).length, value, note: states };
}

export async function books({ rig, proxy, report }) {
  const chain = await rig.chain.transfersFrom(proxy.payer);
  const same = (mine) => mine.count === chain.count && mine.value === chain.value;
  const rows = [["source", "", "payments", "USD", "note"], ["chain", "", chain.count, Number(chain.value) / 1e6, ""]];
  const compare = async (source, read) => {
    let mine;
    let problem = "";
    try {
      // An answer that has just ended may take a moment to be booked.
      await until(async () => same((mine = await read())), source, 10_000, 200);
    } catch (error) {
      problem = error.message;
    }
    const detail = mine ? `${mine.count} payments of ${mine.value}, chain ${chain.count} of ${chain.value}` : problem;
    const mark = report.check(`${source} agrees with the chain`, mine && same(mine), detail);
    rows.push([source, mark, mine?.count ?? "?", mine ? Number(mine.value) / 1e6 : "?", mine?.note ?? problem]);
  };
  await compare("metrics", async () => fromMetrics(await proxy.metrics()));
  await compare("ledger show", async () => fromLedger(await proxy.ledger()));
  report.title("Books: everything the payer's address ever sent, against the proxy's own word");
  table(rows);
}
