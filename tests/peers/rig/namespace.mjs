// A network namespace that looks like a pod with interception: every connection to the ports of the sellers is redirected to
// the proxy, names have other addresses for the agent than for the proxy, and nothing leaves the machine.
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";

// Where Debian keeps them, also for users who do not have these folders in their path.
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const run = promisify(execFile);

/** What an agent's resolver says: documentation addresses, where nobody listens. What is not redirected cannot succeed. */
export const OUTSIDE = { "seller4.test": "203.0.113.10", "seller6.test": "2001:db8::10" };

/** What the proxy's resolver says, from the hosts file. `loop.test` is where the redirect leads back to the proxy. */
const HOSTS = `127.0.0.1 localhost seller4.test other.test
::1 seller6.test
203.0.113.10 loop.test
`;

// As in a pod, connections come from an address that is not a loopback one.
const NETWORK = `link set lo up
address add 10.64.0.2/32 dev lo
route add default dev lo src 10.64.0.2
-6 address add 2001:db8:64::2/128 dev lo nodad
-6 route add default dev lo src 2001:db8:64::2
`;

/** Redirects with nft. */
const nft = {
  name: "nft",
  redirect(ports, to) {
    const text = `table inet ways
delete table inet ways
table inet ways {
  chain redirected {
    type nat hook output priority -100
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    tcp dport { ${ports.join(", ")} } redirect to :${to}
  }
  chain counted {
    type filter hook output priority 0
    tcp dport ${to} tcp flags syn / syn,ack counter
  }
}
`;
    execFileSync("nft", ["-f", "-"], { input: text, env, stdio: ["pipe", "pipe", "pipe"] });
  },
  async begun() {
    const { stdout } = await run("nft", ["list", "chain", "inet", "ways", "counted"], { env });
    return Number(stdout.match(/packets (\d+)/)[1]);
  },
};

/** The same with iptables, of either backend. */
const iptables = {
  name: "iptables",
  redirect(ports, to) {
    for (const [tool, loopback] of [["iptables", "127.0.0.0/8"], ["ip6tables", "::1/128"]]) {
      const call = (...args) => execFileSync(tool, ["-w", ...args], { env, stdio: "pipe" });
      for (const [table, chain] of [["nat", "WAYS"], ["filter", "COUNTED"]]) {
        try {
          call("-t", table, "-N", chain);
          call("-t", table, "-A", "OUTPUT", "-j", chain);
        } catch {
          call("-t", table, "-F", chain);
        }
      }
      call("-t", "nat", "-A", "WAYS", "-d", loopback, "-j", "RETURN");
      // A rule for each port: not every kernel has the match for several.
      for (const port of ports) call("-t", "nat", "-A", "WAYS", "-p", "tcp", "--dport", String(port), "-j", "REDIRECT", "--to-ports", String(to));
      call("-A", "COUNTED", "-p", "tcp", "--dport", String(to), "--syn");
    }
  },
  async begun() {
    const count = async (tool) => Number((await run(tool, ["-w", "-nvxL", "COUNTED"], { env })).stdout.trim().split("\n")[2].trim().split(/\s+/)[0]);
    return (await count("iptables")) + (await count("ip6tables"));
  },
};

/** What redirects here: the first that can. */
let redirects = nft;

/** The command that runs another one in namespaces of its own, or why there is none. */
export async function isolation() {
  const ways = process.getuid() === 0 ? [["unshare", "-n", "-m"], ["unshare", "-Urnm"]] : [["unshare", "-Urnm"]];
  let why;
  for (const way of ways) {
    try {
      // Without its loopback interface nothing at all could run in there.
      await run(way[0], [...way.slice(1), "ip", "link", "set", "lo", "up"], { env });
      return { command: way };
    } catch (error) {
      why = `${way.join(" ")}: ${(error.stderr || error.message).trim()}`;
    }
  }
  return { command: [], why };
}

/** Inside: addresses, routes, hosts, and a first redirect, as a trial. Gives back why it cannot be done. */
export function prepare() {
  const dir = mkdtempSync(path.join(os.tmpdir(), "tollpass-hosts-"));
  try {
    for (const line of NETWORK.trim().split("\n")) execFileSync("ip", line.split(" "), { env, stdio: "pipe" });
    const hosts = path.join(dir, "hosts");
    writeFileSync(hosts, HOSTS);
    execFileSync("mount", ["--bind", hosts, "/etc/hosts"], { env, stdio: "pipe" });
    const why = [];
    for (const kind of [nft, iptables]) {
      try {
        kind.redirect([9], 9);
        redirects = kind;
        return undefined;
      } catch (error) {
        why.push(`${kind.name}: ${(error.stderr?.toString() || error.message).trim()}`);
      }
    }
    return `no redirects in a namespace: ${why.join("; ")}`;
  } catch (error) {
    return `no redirects in a namespace: ${(error.stderr?.toString() || error.message).trim()}`;
  } finally {
    // What is mounted stays, here and only here.
    rmSync(dir, { recursive: true });
  }
}

/** Redirects these ports, wherever outside they lead, to the port of the proxy. */
export const redirect = (ports, to) => redirects.redirect(ports, to);

/** How many connections to the proxy's port were begun, redirected or not, since `redirect`. */
export const begun = () => redirects.begun();
