// Starts chain, facilitator and sellers on free loopback ports. As a program: prints the addresses as JSON and
// runs until it is stopped.
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { makeCa } from "./ca.mjs";
import { startChain } from "./chain.mjs";
import { startFacilitator } from "./facilitator.mjs";
import { json, start, stopAll } from "./process.mjs";

export const HOME = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const PYTHON = path.join(HOME, ".venv", "bin", "python");

// Sellers talk to the facilitator directly, whatever proxy the surrounding shell has set.
export const NO_PROXY_AT_ALL = Object.fromEntries(
  ["http_proxy", "https_proxy", "all_proxy", "no_proxy"].flatMap((name) => [[name, ""], [name.toUpperCase(), ""]]),
);

const SELLERS = {
  "express-v2": [process.execPath, "sellers/express-v2.mjs"],
  "express-v1": [process.execPath, "sellers/express-v1.mjs"],
  fastapi: [PYTHON, "sellers/fastapi_v2.py"],
  odd: [process.execPath, "sellers/odd.mjs"],
  shop: [process.execPath, "sellers/shop.mjs"],
  grpc: [process.execPath, "sellers/grpc.mjs"],
  ways: [process.execPath, "sellers/ways.mjs"],
};

/** `only`: names of sellers, where not all are needed. */
export async function startRig({ only = Object.keys(SELLERS) } = {}) {
  const dir = await mkdtemp(path.join(os.tmpdir(), "tollpass-peers-"));
  // At exit and not in stop(): an interrupted run must not leave the folder behind either.
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  let facilitator;
  const stop = async () => {
    await stopAll();
    await facilitator?.stop();
  };
  try {
    const [chain, tls] = await Promise.all([startChain(), makeCa(dir)]);
    facilitator = await startFacilitator(chain);
    const env = { ...NO_PROXY_AT_ALL, FACILITATOR_URL: facilitator.url, SHOP_DIR: dir, SELLER_KEY: tls.key, SELLER_CERT: tls.cert };
    const started = only.map(async (name) => {
      const [command, file] = SELLERS[name];
      const seller = start(command, [file], { cwd: HOME, env, name: `seller ${name}` });
      return [name, { ...(await seller.line(json)), process: seller }];
    });
    const { odd, shop, grpc, ways, ...sellers } = Object.fromEntries(await Promise.all(started));
    return { dir, chain, facilitator, tls, sellers, odd, shop, grpc, ways, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { chain, facilitator, sellers, odd, shop, grpc, ways, tls } = await startRig();
  const all = { ...sellers, odd, shop, grpc, ways };
  console.log(JSON.stringify({ chain: chain.url, facilitator: facilitator.url, sellers: all, ca: tls.ca },
    (key, value) => (key === "process" ? undefined : value), 2));
}
