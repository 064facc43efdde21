// The program under test, with the configuration an operator would write for these sellers.
import { execFile } from "node:child_process";
import { access, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { PAYER, PAYER_KEY } from "./chain.mjs";
import { SHOP_NAME } from "./ca.mjs";
import { withHosts } from "./hosts.mjs";
import { json, start, until } from "./process.mjs";
import { NO_PROXY_AT_ALL } from "./rig.mjs";

const exec = promisify(execFile);

const config = (signer, { listen = {}, tokens }) => `version: 1
listen: ${JSON.stringify({ proxy: "127.0.0.1:0", admin: "127.0.0.1:0", ...listen })}
state: ./state
ledger: { store: sqlite, ephemeral: accept }
policy: policy.yaml
tls: { intercept: allowed, extra_roots: [seller-ca.pem] }
agents: ${JSON.stringify({ default: "peer-bot", ...(tokens ? { tokens } : {}) })}
upstream: { allow_private: true, replay_limit: 16MiB, first_byte: 300s }
${signer}`;

const LOCAL = "signer: { local: { key: env:TOLLPASS_DEV_KEY } }\n";

// A name that is not loopback is paid only at the ports that are listed. The sellers of these tests fail on purpose and often.
const policy = ({ hosts, ports }) => `version: 1
risk: { paid_but_failed: off, retry_loop: off, velocity: off }
agents:
  peer-bot:
    caps: { per_payment: 0.05, day: 1000 }
    allow:
      - id: sellers
        host: [localhost, 127.0.0.1, "::1"]
        methods: [GET, POST]
        networks: ["eip155:84532"]
        assets: [USDC]
        pay_to: any
        plain_http: true
      - id: named
        host: [${hosts}]
        ports: [${ports}]
        methods: [GET, POST]
        networks: ["eip155:84532"]
        assets: [USDC]
        pay_to: any
        plain_http: true
`;

/** The sellers that clients reach by a name. */
export const shops = ({ shop, grpc }) => ({
  hosts: [SHOP_NAME],
  ports: [shop.http, shop.https, grpc.http, grpc.https].map((url) => new URL(url).port),
});

/**
 * `mpc`: the wallet in three shares that pays, or undefined for a whole key in this process. `more`: a folder of its own, further
 * listeners, a file of tokens, and sellers whose names this process knows already.
 */
export async function startTollpass(bin, rig, mpc, more = {}) {
  const { dir = rig.dir, named = shops(rig) } = more;
  const file = path.join(dir, "tollpass.yaml");
  await writeFile(file, config(mpc?.signer() ?? LOCAL, more));
  await writeFile(path.join(dir, "policy.yaml"), policy(named));
  const env = mpc ? NO_PROXY_AT_ALL : { ...NO_PROXY_AT_ALL, TOLLPASS_DEV_KEY: PAYER_KEY };
  const before = more.named ? undefined : await withHosts(path.join(dir, "hosts"), `127.0.0.1 ${SHOP_NAME}`);
  const [command, ...args] = [...(before ?? []), bin, "serve", "--config", file, "--json"];
  const proc = start(command, args, { env, cwd: dir, name: "tollpass" });
  const listening = (line) => (json(line)?.event === "listening" ? json(line) : undefined);
  const { proxy, admin, https, socks, transparent } = await proc.line(listening, 30_000);

  const trust = (name) => path.join(dir, "state", "trust", name);
  const [ca, bundle, truststore] = [trust("ca.pem"), trust("bundle.pem"), trust("truststore.p12")];
  await until(async () => (await fetch(`http://${admin}/readyz`).catch(() => null))?.status === 200, "/readyz to be 200");
  await Promise.all([ca, bundle].map((file) => access(file)));

  return {
    payer: mpc?.address ?? PAYER.address,
    proxy, https, socks, transparent, ca, bundle, truststore, proc,
    named: before !== undefined,
    alive: () => proc.exited === null,
    metrics: async () => (await fetch(`http://${admin}/metrics`)).text(),
    ledger: async () => {
      const args = ["ledger", "show", "--config", file, "--json"];
      const { stdout } = await exec(bin, args, { env: { ...process.env, ...env }, cwd: dir, maxBuffer: 64 << 20 });
      return JSON.parse(stdout);
    },
    stop: () => proc.stop(10_000),
  };
}
