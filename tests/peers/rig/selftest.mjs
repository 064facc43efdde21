// Does the rig itself work? The reference buyer @x402/fetch buys once from every seller, the driver of the ways buys
// every kind of exchange, all straight and without a proxy, and the chain has to agree. Run this first when a peer test
// fails: it tells whose fault it is.
import { readFile } from "node:fs/promises";
import { x402Client, x402HTTPClient } from "@x402/core/client";
import { registerExactEvmScheme } from "@x402/evm/exact/client";
import { payeeOf, PRICE_ATOMIC } from "../sellers/common.mjs";
import { jobsOf, openGate } from "../checks/clients-table.mjs";
import { makeBody } from "../clients/body.mjs";
import { run } from "../clients/clients.mjs";
import { KINDS, talk, wantedStatus } from "../clients/talk.mjs";
import { enter } from "../clients/ways.mjs";
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

const wallet = new x402HTTPClient(registerExactEvmScheme(new x402Client(), { signer: PAYER }));

/** Asks, pays what is asked, asks again: the kinds of exchange work between driver and seller alone. */
async function straight(scheme, version, kind, payload, ca) {
  const cell = `self-ways-${scheme}-${version}-${kind}`.toLowerCase();
  const target = { scheme, host: "localhost", port: rig.ways.ports[scheme] };
  const acknowledge = () => fetch(`${rig.ways.http}/control/${cell}/ack`);
  const once = async (extra) => {
    const socket = await enter("direct", { ca }, target, version);
    try {
      return await talk(socket, version, kind, { target, cell, payload, acknowledge, extra });
    } finally {
      socket.destroy();
    }
  };
  try {
    const asked = await once();
    const required = wallet.getPaymentRequiredResponse((name) => asked.headers[name.toLowerCase()]);
    const paid = await once(wallet.encodePaymentSignatureHeader(await wallet.createPaymentPayload(required)));
    const { count, value } = await rig.chain.transfersTo(payeeOf(cell));
    const good = asked.status === 402 && paid.status === wantedStatus(kind, version) && count === 1 && value === PRICE_ATOMIC;
    check(cell, good, `asked ${asked.status}, paid ${paid.status}, ${count} transfers of ${value}, ${paid.text}`);
  } catch (error) {
    check(cell, false, error.stack);
  }
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
  const [payload, ca] = await Promise.all([readFile(body.file), readFile(rig.tls.ca)]);
  const kinds = Object.keys(KINDS).filter((kind) => !KINDS[kind].unpaid);
  for (const scheme of ["http", "https"]) {
    for (const version of ["h1", "h2"]) {
      for (const kind of kinds) await straight(scheme, version, kind, payload, ca);
    }
  }
  // The shop and the gRPC server, straight: what is free is right, what costs money is not had without.
  for (const client of ["curl", "grpc-python", "grpc-js"]) {
    const context = { rig, body, mode: "self", host: "localhost" };
    const jobs = ["http", "https"].flatMap((scheme) => jobsOf(context, client, scheme));
    const trust = { CURL_CA_BUNDLE: rig.tls.ca, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: rig.tls.ca };
    const answers = await run(client, trust, jobs, body.file, { onFirst: (number) => openGate(context, jobs[number]) });
    for (const [number, job] of jobs.entries()) {
      const { status, body: text, problem } = answers[number];
      const good = job.price ? status !== 200 && `${status} ${problem}`.includes("402") : status === 200 && (await job.right({ body: text }));
      check(job.cell, good, `${status} ${problem ?? text}`);
    }
  }
  const sold = wants.length + 4 * kinds.length;
  const spent = await rig.chain.transfersFrom(PAYER.address);
  check("the chain's total is the sum of the cells", spent.count === sold && spent.value === PRICE_ATOMIC * BigInt(sold),
    `${spent.count} transfers of ${spent.value}`);
  const code = await rig.chain.reader.getCode({ address: USDC });
  check("token code is in place", (code?.length ?? 0) > 1000);
} finally {
  await rig.stop();
}
console.log(`${passed} passed, ${failed} failed, 0 skipped`);
process.exitCode = failed ? 1 : 0;
