// Buys with @x402/fetch: URL CONNECTIONS SECONDS; prints one line of JSON. Run with the modules of tests/peers (see run.py).
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const peers = createRequire(process.env.BENCH_MODULES);
const load = (name) => import(pathToFileURL(peers.resolve(name)).href);
const { wrapFetchWithPaymentFromConfig } = await load("@x402/fetch");
const { ExactEvmScheme } = await load("@x402/evm");
const { privateKeyToAccount } = await load("viem/accounts");

const [url, connections, seconds] = process.argv.slice(2);
const account = privateKeyToAccount(process.env.BENCH_KEY);
const pay = wrapFetchWithPaymentFromConfig(fetch, { schemes: [{ network: "eip155:84532", client: new ExactEvmScheme(account) }] });

const from = performance.now() + 500;
const until = from + Number(seconds) * 1000;
const took = [];
let [page, failed] = [process.pid * 2 ** 24, 0];

async function buy() {
  for (;;) {
    const start = performance.now();
    if (start >= until) return;
    let good = false;
    try {
      const answer = await pay(`${url}/buy/${(page++).toString(16)}`);
      good = (await answer.text()).length === 1024 && answer.status === 200;
    } catch {
      // Counted below.
    }
    if (start < from) continue;
    if (good) took.push(performance.now() - start);
    else failed++;
  }
}

await Promise.all(Array.from({ length: Number(connections) }, buy));
took.sort((a, b) => a - b);
const at = (part) => took[Math.floor(took.length * part)] ?? 0;
console.log(JSON.stringify({ bought: took.length, failed, per_second: took.length / Number(seconds), p50_ms: at(0.5), p99_ms: at(0.99) }));
process.exit(0);
