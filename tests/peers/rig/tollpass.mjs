// The program under test, with the configuration an operator would write for these sellers.
import { execFile } from "node:child_process";
import { access, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { PAYER, PAYER_KEY } from "./chain.mjs";
import { SHOP_NAME } from "./ca.mjs";
import { json, start, until } from "./process.mjs";
import { NO_PROXY_AT_ALL } from "./rig.mjs";

const exec = promisify(execFile);

const config = (signer) => `version: 1
listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }
state: ./state
ledger: { store: sqlite, ephemeral: accept }
policy: policy.yaml
tls: { intercept: allowed, extra_roots: [seller-ca.pem] }
agents: { default: peer-bot }
upstream: { allow_private: true, replay_limit: 16MiB, first_byte: 300s }
${signer}`;

const LOCAL = "signer: { local: { key: env:TOLLPASS_DEV_KEY } }\n";

// A name that is not loopback is paid only at the ports that are listed.
const policy = (ports) => `version: 1
agents:
  peer-bot:
    caps: { per_payment: 0.05, day: 1000 }
    allow:
      - id: sellers
        host: [localhost, 127.0.0.1]
        methods: [GET, POST]
        networks: ["eip155:84532"]
        assets: [USDC]
        pay_to: any
        plain_http: true
      - id: shop
        host: [${SHOP_NAME}]
        ports: [${ports}]
        methods: [GET, POST]
        networks: ["eip155:84532"]
        assets: [USDC]
        pay_to: any
        plain_http: true
`;

/**
 * What to put before the program so that it alone knows the shop's name: a mount namespace with a hosts file of its own. A
 * client that gets an answer from that name was proxied; and Go, Java and Chromium never proxy what they know as loopback.
 * Undefined where no such namespace can be made.
 */
async function withNames(dir) {
  const hosts = path.join(dir, "hosts");
  await writeFile(hosts, `127.0.0.1 localhost ${SHOP_NAME}\n`);
  const flags = process.getuid() === 0 ? ["-m"] : ["-Urm"];
  const before = ["unshare", ...flags, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts];
  return exec(before[0], [...before.slice(1), "true"]).then(() => before, () => undefined);
}

/** `mpc`: the wallet in three shares that pays, or undefined for a whole key in this process. */
export async function startTollpass(bin, { dir, shop, grpc }, mpc) {
  const file = path.join(dir, "tollpass.yaml");
  const ports = [shop.http, shop.https, grpc.http, grpc.https].map((url) => new URL(url).port);
  await writeFile(file, config(mpc?.signer() ?? LOCAL));
  await writeFile(path.join(dir, "policy.yaml"), policy(ports));
  const env = mpc ? NO_PROXY_AT_ALL : { ...NO_PROXY_AT_ALL, TOLLPASS_DEV_KEY: PAYER_KEY };
  const before = await withNames(dir);
  const [command, ...args] = [...(before ?? []), bin, "serve", "--config", file, "--json"];
  const proc = start(command, args, { env, cwd: dir, name: "tollpass" });
  const listening = (line) => (json(line)?.event === "listening" ? json(line) : undefined);
  const { proxy, admin } = await proc.line(listening, 30_000);

  const trust = (name) => path.join(dir, "state", "trust", name);
  const [ca, bundle, truststore] = [trust("ca.pem"), trust("bundle.pem"), trust("truststore.p12")];
  await until(async () => (await fetch(`http://${admin}/readyz`).catch(() => null))?.status === 200, "/readyz to be 200");
  await Promise.all([ca, bundle].map((file) => access(file)));

  return {
    payer: mpc?.address ?? PAYER.address,
    proxy, ca, bundle, truststore, proc,
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
