#!/usr/bin/env node
// A stand-in for the tollpass binary: a proxy that pays every 402 with @x402/fetch and remembers nothing.
// It exists to test the tests: with it the matrix and the books have to pass, and the retry cases have to fail.
//   node run.mjs --bin rig/standin.mjs
import { spawn } from "node:child_process";
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import tls from "node:tls";
import { registerExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";
import { makeCa } from "./ca.mjs";

const home = path.dirname(process.argv[process.argv.indexOf("--config") + 1]);
const at = (...names) => path.join(home, ...names);

if (process.argv[2] === "ledger") {
  const payments = (await readFile(at("state", "payments"), "utf8").catch(() => "")).trim().split("\n").filter(Boolean);
  const spent_usd = payments.reduce((sum, amount) => sum + Number(amount), 0) / 1e6;
  console.log(JSON.stringify({ totals: { payments: payments.length, spent_usd } }));
} else if (process.env.NODE_EXTRA_CA_CERTS !== at("seller-ca.pem")) {
  // Node reads its extra roots only at start, so start once more with the sellers' CA.
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: at("seller-ca.pem") };
  const child = spawn(process.execPath, process.argv.slice(1), { env, stdio: "inherit" });
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.on("exit", (code) => process.exit(code ?? 1));
} else {
  await serve();
}

async function serve() {
  await Promise.all([mkdir(at("state", "trust"), { recursive: true }), mkdir(at("state", "private"), { recursive: true })]);
  const own = await makeCa(at("state", "private"));
  for (const name of ["ca.pem", "bundle.pem"]) await writeFile(at("state", "trust", name), await readFile(own.ca));
  const secure = { key: await readFile(own.key), cert: await readFile(own.cert) };

  let count = 0;
  let spent = 0;
  const client = registerExactEvmScheme(new x402Client(), { signer: privateKeyToAccount(process.env.TOLLPASS_DEV_KEY) });
  client.onAfterPaymentCreation(async ({ selectedRequirements: { amount, maxAmountRequired } }) => {
    count++;
    spent += Number(amount ?? maxAmountRequired);
    await appendFile(at("state", "payments"), `${amount ?? maxAmountRequired}\n`);
  });
  const pay = wrapFetchWithPayment(fetch, client);

  const HOP = new Set(["host", "connection", "proxy-connection", "proxy-authorization", "keep-alive", "transfer-encoding", "content-length", "expect", "te", "upgrade"]);
  const keep = (headers) => Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP.has(name)));
  const inner = http.createServer(async (req, res) => {
    const { scheme, authority } = req.socket.tunnel ?? {};
    const url = scheme ? `${scheme}://${authority}${req.url}` : req.url;
    try {
      const chunks = [];
      for await (const chunk of req) chunks.push(chunk);
      const body = req.method === "GET" ? undefined : Buffer.concat(chunks);
      const response = await pay(url, { method: req.method, headers: keep(req.headers), body, redirect: "manual" });
      const bytes = Buffer.from(await response.arrayBuffer());
      const headers = keep(Object.fromEntries(response.headers));
      delete headers["content-encoding"];
      res.writeHead(response.status, { ...headers, "content-length": bytes.length }).end(bytes);
    } catch (error) {
      console.error(error);
      res.writeHead(502).end(String(error));
    }
  });
  inner.on("connect", (req, socket) => {
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    socket.on("error", () => {});
    socket.once("data", (first) => {
      // Paused, or TLSSocket would not find the bytes that are put back.
      socket.pause();
      socket.unshift(first);
      const secured = first[0] === 0x16;
      const stream = secured ? new tls.TLSSocket(socket, { isServer: true, ...secure }) : socket;
      stream.on("error", () => {});
      stream.tunnel = { scheme: secured ? "https" : "http", authority: req.url };
      inner.emit("connection", stream);
      if (!secured) stream.resume();
    });
  });
  const admin = http.createServer((req, res) =>
    res.end(req.url === "/metrics"
      ? `tollpass_payments_total{agent="peer-bot",outcome="settled"} ${count}\ntollpass_spend_usd_total{agent="peer-bot"} ${spent / 1e6}\n`
      : "ok"));
  const listen = (server) =>
    new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(`127.0.0.1:${server.address().port}`)));
  console.log(JSON.stringify({ event: "listening", proxy: await listen(inner), admin: await listen(admin) }));
}
