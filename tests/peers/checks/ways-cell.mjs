// One cell of the ways: an exchange that the agent asks for once, and what chain and seller say about it.
import { KINDS, talk, wantedStatus } from "../clients/talk.mjs";
import { enter, WAYS } from "../clients/ways.mjs";
import { payeeOf, PRICE_ATOMIC } from "../sellers/common.mjs";
import { usd } from "./report.mjs";

/** Who has no answer by then gets none. */
const PATIENCE = 15_000;

/** Opens a connection and runs `work` on it; it is closed at the end, or when patience ends. */
export async function within(open, work) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(Object.assign(new Error(`nothing after ${PATIENCE} ms`), { late: true })), PATIENCE)));
  const opened = open();
  try {
    return await Promise.race([opened.then(work), late]);
  } finally {
    clearTimeout(timer);
    opened.then((socket) => socket.destroy(), () => {});
  }
}

/** Buys one cell and asks chain and seller what became of it. */
export async function buy(context, { way, scheme, version, kind, name = "", target = context.target(way, scheme) }) {
  const cell = ["ways", way, scheme, version, kind, name].filter(Boolean).join("-").toLowerCase();
  const control = async (verb) => (await fetch(`${context.rig.ways.http}/control/${cell}/${verb}`)).json();
  const asked = { target, cell, payload: context.payload, absolute: WAYS[way].absolute, acknowledge: () => control("ack") };
  let got;
  try {
    got = await within(() => enter(way, context.at, target, version), (socket) => talk(socket, version, kind, asked));
  } catch (error) {
    got = { status: 0, headers: {}, text: error.message, late: error.late };
  }
  const seen = await control("");
  const paid = await context.rig.chain.transfersTo(payeeOf(cell));
  const wanted = KINDS[kind].unpaid ? 0 : 1;
  const receipt = wanted === 0 || got.headers["payment-response"] !== undefined;
  const good = got.status === wantedStatus(kind, version) && paid.count === wanted && paid.value === PRICE_ATOMIC * BigInt(wanted) && receipt;
  const why = [got.headers["proxy-status"], got.text].filter(Boolean).join(" ");
  const detail = `status ${got.status}, chain ${paid.count} x (${usd(paid.value)}), receipt ${receipt}, seller saw ${JSON.stringify(seen)}; ${why}`;
  return { ...got, ...paid, seen, mark: context.report.check(cell, good, detail) };
}
