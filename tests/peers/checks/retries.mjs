// Retry semantics, counted on the chain: how often money moves when clients repeat, hang up, time out or are sent round.
import { agentEnv, follow } from "../clients/clients.mjs";
import { ask, backOff } from "../clients/wire.mjs";
import { until } from "../rig/process.mjs";
import { payeeOf, PRICE_ATOMIC } from "../sellers/common.mjs";
import { table, usd } from "./report.mjs";

const MANY = 20;

const NAMES = ["live", "abandoned-in-flight", "abandoned-settled", "hang", "settled-402", "redirect"];
const cellOf = (name) => `retry-${name}`;
/** The cells of all cases. */
export const RETRY_CELLS = NAMES.map(cellOf);

/** A page of the odd seller and the means to watch and steer it. */
function page({ rig, proxy }, behaviour, name) {
  const cell = cellOf(name);
  const url = `${rig.odd.http}/${behaviour}/${cell}`;
  const control = async (verb = "") => (await fetch(`${rig.odd.http}/control/${cell}/${verb}`, { method: "POST" })).json();
  return {
    url,
    open: () => control("open"),
    drop: () => control("drop"),
    seen: () => control(),
    reached: (field, n, timeout = 30_000) => until(async () => (await control())[field] >= n, `${name}: ${n} ${field}`, timeout),
    ask: (n = 1) => Array.from({ length: n }, () => ask(proxy.proxy, url)),
    paid: () => rig.chain.transfersTo(payeeOf(cell)),
  };
}

const answers = (requests) => Promise.all(requests.map((r) => r.answer));
const statuses = (all) =>
  Object.entries(all.reduce((n, { status }) => ({ ...n, [status]: (n[status] ?? 0) + 1 }), {})).map(([s, n]) => `${n}x${s}`).join(" ");
const allDelivered = (all) => all.every(({ status }) => status === 200);

/** Twenty live clients ask for the same thing at once: twenty purchases. The gate holds all of them in flight together. */
async function live(context) {
  const at = page(context, "gate", "live");
  const requests = at.ask(MANY);
  await at.reached("paid", MANY).catch(() => {});
  await at.open();
  const got = await answers(requests);
  return { at, got, expect: MANY, good: allDelivered(got) };
}

/** Twenty clients give up while the seller works, and twenty come back before it is done: they join what is in flight. */
async function abandonedInFlight(context) {
  const at = page(context, "gate", "abandoned-in-flight");
  const first = at.ask(MANY);
  await at.reached("paid", MANY);
  first.forEach((r) => r.hangUp());
  await answers(first);
  await backOff();
  const again = at.ask(MANY);
  // The repeats show up as unpaid requests if the proxy asks the seller before it looks at its books; it need not.
  await at.reached("unpaid", 2 * MANY, 2_000).catch(() => {});
  await at.open();
  const got = await answers(again);
  return { at, got, expect: MANY, good: allDelivered(got) };
}

/** The same, but everything is settled and answered before the clients come back: they get the kept answers. */
async function abandonedAndSettled(context) {
  const at = page(context, "gate", "abandoned-settled");
  const first = at.ask(MANY);
  await at.reached("paid", MANY);
  first.forEach((r) => r.hangUp());
  await answers(first);
  await at.open();
  await at.reached("settled", MANY);
  await backOff();
  const got = await answers(at.ask(MANY));
  return { at, got, expect: MANY, good: allDelivered(got) };
}

/** The seller takes the money and never answers; the client times out and asks again, five times in all. */
async function settleThenHang(context) {
  const at = page(context, "hang", "hang");
  const got = [];
  for (let attempt = 0; attempt < 5; attempt++) {
    const [request] = at.ask();
    if (attempt === 0) await at.reached("settled", 1);
    const patience = setTimeout(request.hangUp, 1_000);
    got.push(await request.answer);
    clearTimeout(patience);
    await backOff();
  }
  // Cut the connections at last, so that the books can be closed on this purchase too.
  await at.drop();
  return { at, got, expect: 1, good: got.every(({ status }) => status !== 200) };
}

/** The seller takes the money and asks for it again; so does the client, three times. */
async function settledBut402(context) {
  const at = page(context, "settled402", "settled-402");
  const got = [];
  for (let attempt = 0; attempt < 3; attempt++) got.push(await at.ask()[0].answer);
  return { at, got, expect: 1, good: got.every(({ status }) => status === 402) };
}

/** Two paid pages send the client to each other: at most the first and one more are bought. */
async function redirectLoop(context) {
  const at = page(context, "redirect", "redirect");
  const got = await follow(agentEnv(context.proxy), `${at.url}/a`);
  return { at, got: [got], atMost: 2, good: true };
}

const CASES = {
  [`${MANY} identical live requests`]: live,
  [`${MANY} abandoned, repeated in flight`]: abandonedInFlight,
  [`${MANY} abandoned, repeated after settlement`]: abandonedAndSettled,
  "settle, then hang; asked 5 times": settleThenHang,
  "settle, then 402; asked 3 times": settledBut402,
  "paid redirect loop": redirectLoop,
};

export async function retries(context) {
  const rows = [["case", "", "transfers", "wanted", "value", "answers", "seller saw"]];
  for (const [name, run] of Object.entries(CASES)) {
    try {
      const { at, got, expect, atMost, good } = await run(context);
      const { count, value } = await at.paid();
      const counted = atMost === undefined ? count === expect : count >= 1 && count <= atMost;
      const exact = value === PRICE_ATOMIC * BigInt(count);
      const seen = await at.seen();
      const saw = Object.entries(seen).map(([k, v]) => `${v} ${k}`).join(", ");
      const wanted = atMost === undefined ? expect : `1..${atMost}`;
      const problems = [...new Set(got.map((g) => g.problem ?? (g.status >= 400 ? g.body?.slice(0, 200) : "")).filter(Boolean))];
      const detail = `${count} transfers, wanted ${wanted}; answers ${statuses(got)}; seller saw ${saw}; ${problems.join(" | ")}`;
      const mark = context.report.check(name, good && counted && exact, detail);
      rows.push([name, mark, count, wanted, usd(value), statuses(got), saw]);
    } catch (error) {
      rows.push([name, context.report.check(name, false, error.message), "?", "", "", "", ""]);
    }
  }
  context.report.title("Retries: number of transfers on the chain");
  table(rows);
}
