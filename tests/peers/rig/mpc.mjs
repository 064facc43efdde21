// A wallet in three shares, made by the program itself on this host, and its co-signer: what an operator would set up for
// these sellers, with three folders where three machines would be.
import { execFile } from "node:child_process";
import { cp, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { USDC } from "./chain.mjs";
import { json, start, until } from "./process.mjs";
import { NO_PROXY_AT_ALL } from "./rig.mjs";

const WALLET = "peers";
export const AGENT = "peer-bot";

const CONFIG = `version: 1
listen: "127.0.0.1:0"
admin: 127.0.0.1:0
state: state
ledger: { ephemeral: accept }
wallet: { share: file:share, unseal: file:../passphrases/cosigner/passphrase }
identity: file:identity.pem
policy: policy.yaml
`;

/** Every payee stands here by its address: the co-signer believes nobody about a payee, and \`unverified\` is zero. */
const policy = (payees, caps) => `version: 1
caps: { wallet: { day: ${caps.wallet} }, payee: { day: ${caps.payee} } }
agents:
  ${AGENT}:
    caps: { per_payment: ${caps.payment}, day: ${caps.wallet} }
    allow:
      - id: sellers
        host: [localhost, 127.0.0.1]
        methods: [GET, POST]
        networks: ["eip155:84532"]
        assets: [USDC]
        pay_to: [${payees.map((payee) => `"${payee}"`).join(", ")}]
`;

/** Makes the wallet, starts its co-signer and enrols the sidecar's key. */
export async function startMpc(bin, dir, { payees, recovery }) {
  const home = path.join(dir, "wallet");
  const at = (...names) => path.join(home, ...names);
  const env = NO_PROXY_AT_ALL;
  const tollpass = async (...args) => {
    const { stdout } = await promisify(execFile)(bin, [...args, "--json"], { env: { ...process.env, ...env }, cwd: dir });
    return JSON.parse(stdout);
  };
  const made = await tollpass("wallet", "create", "--one-host", home, "--wallet", WALLET, "--agent", AGENT, "--recovery", recovery);
  const pin = made.identities.cosigner;
  await writeFile(at("cosigner", "cosigner.yaml"), CONFIG);

  const self = { address: made.address, recovery, pin, cosigner: undefined, url: undefined };

  /** Starts the co-signer, again if it ran, under a policy with these caps in dollars. */
  self.run = async (caps) => {
    await self.cosigner?.stop(10_000);
    await writeFile(at("cosigner", "policy.yaml"), policy(payees, caps));
    const config = at("cosigner", "cosigner.yaml");
    self.cosigner = start(bin, ["cosigner", "--config", config, "--json"], { env, cwd: dir, name: "co-signer" });
    const listening = (line) => (json(line)?.event === "listening" ? json(line) : undefined);
    const told = await self.cosigner.line(listening, 60_000);
    self.url = `https://${told.listen ?? told.cosigner}`;
  };

  await self.run({ payment: 0.05, payee: 1, wallet: 1000 });
  const issued = await tollpass("wallet", "enroll", "--config", at("cosigner", "cosigner.yaml"), "--name", "sidecar-1", "--agent", AGENT);
  await writeFile(at("token"), issued.token, { mode: 0o600 });
  await tollpass("wallet", "enroll", "--redeem", at("token"), "--identity", at("sidecar", "identity.pem"), "--cosigner", self.url, "--pin", pin);

  /** The `signer` of the proxy's configuration. */
  self.signer = () => `signer:
  mpc:
    wallet: ${WALLET}
    share: file:${at("sidecar", "share")}
    unseal: file:${at("passphrases", "sidecar", "passphrase")}
    identity: file:${at("sidecar", "identity.pem")}
    cosigner: "${self.url}"
    pin: ${pin}
`;

  /** Everything a thief finds on the sidecar's machine, copied; the passphrase too. */
  self.steal = async () => {
    const loot = (name) => at("loot", name);
    await mkdir(loot("secrets"), { recursive: true });
    await cp(at("sidecar", "share"), loot("share"), { recursive: true });
    await cp(at("sidecar", "identity.pem"), loot("identity.pem"));
    await cp(at("passphrases", "sidecar", "passphrase"), path.join(loot("secrets"), "passphrase"));
    return { identity: loot("identity.pem"), share: loot("share"), passphrase: path.join(loot("secrets"), "passphrase") };
  };

  /** `wallet recover` between the cold share and another one, each a process of its own. Answers what the two printed. */
  self.recover = async (other, dollars) => {
    const args = (me, peer) => [
      "wallet", "recover", "--with", peer, "--share", at(me, "share"), "--unseal", `file:${at("passphrases", me, "passphrase")}`,
      "--identity", at(me, "identity.pem"), "--asset", `eip155:84532/erc20:${USDC}`, "--amount", dollars, "--wait", "60s", "--json",
    ];
    const run = (me, peer, ...more) => start(bin, [...args(me, peer), ...more], { env, cwd: dir, name: `recover ${me}` });
    const host = run(other, "cold", "--listen", "127.0.0.1:0");
    const said = () => {
      if (host.exited !== null) throw new Error(`recover ${other} ended (${host.exited}): ${host.stderr}`);
      return host.stderr.match(/the board is at (\S+)/)?.[1];
    };
    const board = await until(said, `the ${other}'s board`, 60_000);
    const guest = run("cold", other, "--join", `https://${board}`);
    const answer = async (proc) => {
      await until(() => proc.exited !== null, `${proc.name} to end`, 120_000);
      if (proc.exited !== 0) throw new Error(`${proc.name} ended (${proc.exited}): ${proc.stderr}`);
      return JSON.parse(proc.lines.join("\n"));
    };
    return Promise.all([answer(host), answer(guest)]);
  };

  self.stop = () => self.cosigner?.stop(10_000);
  return self;
}
