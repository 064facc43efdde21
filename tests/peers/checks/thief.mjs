// The sidecar was robbed: a program with its share, its key and its passphrase, and without a policy, asks the co-signer for
// whatever it can think of. Everything it gets signed is brought to the chain, and the chain must not show more than the
// co-signer's caps.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { parseSignature } from "viem";
import { USDC } from "../rig/chain.mjs";
import { AGENT } from "../rig/mpc.mjs";
import { json, start } from "../rig/process.mjs";
import { payeeOf } from "../sellers/common.mjs";
import { table, usd } from "./report.mjs";

const REQUESTS = 300;
/** The one payee that the thief knows the co-signer to accept. */
export const CELL = "thief";
/** What a payee, and one payment, may get in a day, dollars. The thief asks for several times as much. */
const PAYEE = 0.3;
const PAYMENT = 0.02;

const atomic = (dollars) => BigInt(Math.round(dollars * 1e6));

/** Brings one authorization to the token contract; true if it moved money. */
async function submit({ writer, abi, receipt }, a) {
  const { r, s, v } = parseSignature(a.signature);
  const args = [a.from, a.to, BigInt(a.value), BigInt(a.validAfter), BigInt(a.validBefore), a.nonce, Number(v), r, s];
  // A reverted transfer fails in the gas estimate already: the same authorization was signed twice and is used once.
  const hash = await writer.writeContract({ address: USDC, abi, functionName: "transferWithAuthorization", args }).catch(() => null);
  return hash !== null && (await receipt(hash)).status === "success";
}

export async function thief({ rig, mpc, proxy, bin, payees, report }) {
  // The proxy lets go of its share; its spending so far counts against the wallet's cap.
  await proxy.stop();
  const spent = await rig.chain.transfersFrom(mpc.address);
  const wallet = Number(spent.value) / 1e6 + 1;
  await mpc.run({ payment: PAYMENT, payee: PAYEE, wallet });
  const loot = await mpc.steal();
  const out = path.join(rig.dir, "stolen.jsonl");
  const args = [
    "--identity", loot.identity, "--share", loot.share, "--passphrase", loot.passphrase, "--cosigner", new URL(mpc.url).host,
    "--pin", mpc.pin, "--agent", AGENT, "--payee", payeeOf(CELL), "--plan", "mixed", "--requests", `${REQUESTS}`, "--days", "1", "--out", out,
  ];
  // Its last line is the summary, printed after the signatures are written.
  const robber = start(path.join(path.dirname(bin), "tollpass-thief"), args, { name: "thief" });
  const summary = await robber.line((line) => (json(line)?.requests ? json(line) : undefined), 300_000);
  const signatures = (await readFile(out, "utf8")).split("\n").filter(Boolean).map((line) => JSON.parse(line));

  let moved = 0;
  for (const signature of signatures) moved += (await submit(rig.chain, signature)) ? 1 : 0;
  const all = await rig.chain.transfersFrom(mpc.address);
  const taken = await rig.chain.transfersTo(payeeOf(CELL));
  const largest = signatures.reduce((most, { value }) => (BigInt(value) > most ? BigInt(value) : most), 0n);
  const strangers = signatures.filter(({ to }) => !payees.some((payee) => payee.toLowerCase() === to.toLowerCase()));

  const refused = Object.entries(summary.refused).map(([reason, n]) => `${n} ${reason}`).join(", ");
  const rows = [["what", "", "on the chain", "limit"]];
  const hold = (what, good, got, limit) => rows.push([what, report.check(`thief: ${what}`, good, `${got}, limit ${limit}; ${refused}`), got, limit]);
  // Without these two the rest would hold for a thief that was never heard.
  hold("it asked for more than it got", summary.requests >= REQUESTS && signatures.length < summary.requests, `${signatures.length} of ${summary.requests}`, "");
  hold("what it may have, it got", taken.value > 0n && taken.count === moved, `${taken.count} transfers`, "");
  hold("to this payee in a day", taken.value <= atomic(PAYEE), usd(taken.value), `$${PAYEE.toFixed(2)}`);
  hold("from the wallet in a day", all.value <= atomic(wallet) && all.value === spent.value + taken.value, usd(all.value), `$${wallet.toFixed(2)}`);
  hold("in one payment", largest <= atomic(PAYMENT), usd(largest), `$${PAYMENT.toFixed(2)}`);
  hold("to payees that are not listed", strangers.length === 0, strangers.length, 0);
  report.title(`Thief: ${summary.requests} requests with the stolen sidecar's share and key; refused: ${refused}`);
  table(rows);
}
