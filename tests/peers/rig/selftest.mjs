// Does the rig itself work? The reference buyer @x402/fetch buys once from every seller, straight and without a
// proxy, and the chain has to agree. Run this first when a peer test fails: it tells whose fault it is.
import { payeeOf, PRICE_ATOMIC } from "../sellers/common.mjs";
import { makeBody } from "../clients/body.mjs";
import { PAYER, PAYER_KEY, USDC } from "./chain.mjs";
import { json, start } from "./process.mjs";
import { HOME, NO_PROXY_AT_ALL, startRig } from "./rig.mjs";

const rig = await startRig();
let passed = 0;
let failed = 0;
const check = (name, good, detail = "") => {
  good ? passed++ : failed++;
  console.log(`${good ? "ok  " : "FAIL"}  ${name}${good ? "" : `  ${detail}`}`);
};

async function buy(env) {
  const buyer = start(process.execPath, ["rig/buyer.mjs"], { cwd: HOME, env: { ...NO_PROXY_AT_ALL, ...env }, name: "buyer" });
  return buyer.line(json, 120_000);
}

try {
  const body = await makeBody(rig.dir);
  const wants = [];
  for (const [seller, at] of Object.entries(rig.sellers)) {
    for (const scheme of ["http", "https"]) {
      for (const method of ["GET", "POST"]) {
        const cell = `self-${seller}-${scheme}-${method}`;
        wants.push({ cell, url: `${at[scheme]}/buy/${cell}`, method });
      }
    }
  }
  for (const behaviour of ["gate", "settled402"]) {
    const cell = `self-odd-${behaviour}`;
    await fetch(`${rig.odd.http}/control/${cell}/open`, { method: "POST" });
    wants.push({ cell, url: `${rig.odd.http}/${behaviour}/${cell}`, method: "GET", status: behaviour === "gate" ? 200 : 402 });
  }
  const { results } = await buy({
    NODE_EXTRA_CA_CERTS: rig.tls.ca,
    BUYER_KEY: PAYER_KEY,
    BUYER_BODY: body.file,
    BUYER_WANTS: JSON.stringify(wants),
  });

  for (const [i, { cell, method, status = 200 }] of wants.entries()) {
    const got = results[i];
    const { count, value } = await rig.chain.transfersTo(payeeOf(cell));
    const expected = method === "POST" ? body : { length: 0 };
    const same = got.status !== 200 || cell.startsWith("self-odd") ||
      (got.body?.length === expected.length && (method === "GET" || got.body.sha256 === expected.sha256));
    check(cell, got.status === status && count === 1 && value === PRICE_ATOMIC && same,
      `status ${got.status}, ${count} transfers of ${value}, ${JSON.stringify(got).slice(0, 300)}`);
  }
  const spent = await rig.chain.transfersFrom(PAYER.address);
  check("the chain's total is the sum of the cells", spent.count === wants.length && spent.value === PRICE_ATOMIC * BigInt(wants.length),
    `${spent.count} transfers of ${spent.value}`);
  const code = await rig.chain.reader.getCode({ address: USDC });
  check("token code is in place", (code?.length ?? 0) > 1000);
} finally {
  await rig.stop();
}
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exitCode = failed ? 1 : 0;
