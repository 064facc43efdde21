#!/usr/bin/env python3
"""Whole bought requests, side by side: payment libraries, and a plain client behind Tollpass.

Each buyer asks a seller for a page that costs, gets 402, pays, and reads the page; another page each time. There are two sellers: one on
@x402/express whose facilitator answers at once, and one that only looks at the shape of a payment, so that nothing hides what the buyers
themselves cost. Buyers take turns, round by round; medians over the rounds. Prints Markdown.
"""
import argparse, json, os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = ROOT / "tests/peers"
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # the first account of every development chain
PAYEE = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
POLICY = f"""version: 1
agents:
  bot:
    caps: {{ per_payment: 1, day: 1000000 }}
    rate: {{ per_minute: 1000000 }}
    allow: [ {{ id: page, host: 127.0.0.1, networks: ["eip155:84532"], assets: [USDC], pay_to: ["{PAYEE}"], plain_http: true }} ]
"""


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=2.0, help="of one cell")
    p.add_argument("--only", help="comma-separated names of buyers")
    p.add_argument("--sellers", default="express,shape")
    p.add_argument("--tollpass", default=str(ROOT / "target/released/tollpass"))
    p.add_argument("--paid-bench", default=str(HERE / "target/release/paid-bench"))
    p.add_argument("--json", help="write the raw figures here")
    return p.parse_args()


class Rig:
    """Sellers, proxies and co-signers of this run; all end with it."""

    def __init__(self, a):
        self.a, self.processes, self.notes = a, [], []
        newest = PEERS / f"node_modules/node24-{'arm64' if os.uname().machine == 'aarch64' else 'x64'}/bin/node"
        self.node = str(newest) if newest.exists() else shutil.which("node")
        # On a disk: the ledger is durable.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="paid-bench.", dir=ROOT / "target"))

    def start(self, *command, env=None):
        log = open(self.dir / "log", "a")
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=log, text=True, env=dict(os.environ, **(env or {})))
        self.processes.append(process)
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{command[0]} did not start: {(self.dir / 'log').read_text()[-800:]}")
        return process, line

    def serve(self, folder, config):
        (folder / "policy.yaml").write_text(POLICY)
        (folder / "tollpass.yaml").write_text(config)
        process, line = self.start(self.a.tollpass, "serve", "--json", "--config", folder / "tollpass.yaml", env={"BENCH_KEY": KEY})
        return process, "http://" + json.loads(line)["proxy"]

    COMMON = "version: 1\nlisten: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\nstate: ./state\npolicy: policy.yaml\nagents: { default: bot }\nupstream: { allow_private: true }\n"

    def local(self):
        folder = self.dir / "local"
        folder.mkdir()
        return self.serve(folder, self.COMMON + "signer: { local: { key: env:BENCH_KEY } }\n")

    def shares(self, presign):
        """A wallet of its own in three shares, its co-signer, and a proxy with one of them."""
        name = "presigned" if presign else "interactive"
        home = self.dir / name
        made = subprocess.run([self.a.tollpass, "wallet", "create", "--one-host", home, "--wallet", "bench", "--agent", "bot", "--json"],
                              check=True, capture_output=True, text=True)
        pin = json.loads(made.stdout)["identities"]["cosigner"]
        consent = "accept_unreviewed_presign: true" if presign else ""
        judge = home / "cosigner"
        (judge / "policy.yaml").write_text(POLICY)
        (judge / "cosigner.yaml").write_text(
            f"version: 1\nlisten: 127.0.0.1:0\nadmin: none\nstate: state\nwallet: {{ share: file:share, unseal: file:../passphrases/cosigner/passphrase }}\n"
            f"identity: file:identity.pem\npolicy: policy.yaml\n" + (f"presign: {{ {consent} }}\n" if presign else ""))
        other, line = self.start(self.a.tollpass, "cosigner", "--json", "--config", judge / "cosigner.yaml")
        address = json.loads(line)["cosigner"]
        # The co-signer ties the proxy's key to the agent.
        wallet = lambda *words, stdin=None: subprocess.run([self.a.tollpass, "wallet", "enroll", *map(str, words)], check=True, capture_output=True, text=True, input=stdin).stdout
        token = json.loads(wallet("--config", judge / "cosigner.yaml", "--name", "bench", "--agent", "bot", "--json"))["token"]
        wallet("--redeem", "-", "--identity", home / "sidecar/identity.pem", "--cosigner", f"https://{address}", "--pin", pin, stdin=token + "\n")
        signer = (f"signer: {{ mpc: {{ wallet: bench, share: file:share, unseal: file:../passphrases/sidecar/passphrase, identity: file:identity.pem, "
                  f"cosigner: \"https://{address}\", pin: \"{pin}\"{', ' + consent if presign else ''} }} }}\n")
        process, proxy = self.serve(home / "sidecar", self.COMMON + signer)
        return [process, other], proxy

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def cpu(processes):
    """CPU seconds these processes took so far."""
    total = 0
    for process in processes:
        fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def buyers(rig):
    """Name, what it is, its command for a seller and so many connections, and the processes that work for it."""
    a, seconds = rig.a, rig.a.seconds
    only = a.only.split(",") if a.only else None
    wanted = lambda name: not only or name in only
    if wanted("x402-reqwest"):
        yield "x402-reqwest", "Rust, crate `x402-reqwest`", lambda url, n: [a.paid_bench, "x402", url, n, seconds], []
    if rig.node and (PEERS / "node_modules/@x402/fetch").exists():
        if wanted("@x402/fetch"):
            yield "@x402/fetch", "Node, `@x402/fetch`", lambda url, n: [rig.node, HERE / "buyer.mjs", url, n, seconds], []
    elif wanted("@x402/fetch"):
        rig.notes.append("@x402/fetch: left out, run tests/peers/setup.sh first")
    python = PEERS / ".venv/bin/python"
    if python.exists():
        if wanted("httpx"):
            yield "httpx", "Python, `x402` with httpx", lambda url, n: [python, HERE / "buyer.py", url, n, seconds], []
    elif wanted("httpx"):
        rig.notes.append("httpx: left out, run tests/peers/setup.sh first")
    plain = lambda proxy: lambda url, n: [a.paid_bench, "plain", url, n, seconds, proxy]
    if wanted("local"):
        process, proxy = rig.local()
        yield "local", "plain client behind Tollpass, local signer", plain(proxy), [process]
    if wanted("interactive"):
        processes, proxy = rig.shares(False)
        yield "interactive", "the same, key in three shares, interactive", plain(proxy), processes
    if wanted("presigned"):
        processes, proxy = rig.shares(True)
        yield "presigned", "the same, presigned", plain(proxy), processes


def main():
    a = arguments()
    rig = Rig(a)
    try:
        environment = dict(BENCH_KEY=KEY, BENCH_PAYEE=PAYEE, BENCH_MODULES=str(PEERS / "package.json"))
        sellers = {}
        for name in a.sellers.split(","):
            if name == "express" and not rig.node:
                rig.notes.append("the seller on @x402/express: left out, there is no node")
            else:
                command = [rig.node, HERE / "seller.mjs"] if name == "express" else [a.paid_bench, "seller"]
                sellers[name] = rig.start(*command, env=environment)[1]
        all_buyers = list(buyers(rig))
        environment = dict(os.environ, **environment)
        cells = {}
        for _ in range(a.rounds):
            for seller, connections in [(s, n) for s in sellers for n in (1, 32)]:
                for name, _, command, processes in all_buyers:
                    if name == "presigned":
                        time.sleep(2)  # its pool fills
                    before = cpu(processes)
                    done = subprocess.run([str(c) for c in command(sellers[seller], connections)], capture_output=True, text=True, env=environment, timeout=120)
                    if done.returncode or not done.stdout.strip():
                        raise RuntimeError(f"{name}: {done.stderr[-800:]}")
                    cell = json.loads(done.stdout.strip().splitlines()[-1])
                    if not cell["bought"]:
                        raise RuntimeError(f"{name}: nothing was bought; log: {(rig.dir / 'log').read_text()[-800:]}")
                    cell["proxy_cpu"] = cpu(processes) - before
                    cells.setdefault((seller, name, connections), []).append(cell)
        report(rig, sellers, all_buyers, cells)
        if a.json:
            json.dump({" ".join(map(str, k)): v for k, v in cells.items()}, open(a.json, "w"))
    finally:
        rig.end()


WHAT = {"express": "@x402/express, its facilitator answers at once", "shape": "a seller that only looks at the shape of a payment"}
# Buyer, connections, wanted at most, of x402-reqwest's median time.
WANTED = [("local", 1, 1.25), ("local", 32, 1.1)]


def report(rig, sellers, all_buyers, cells):
    print(f"\n## A whole bought request ({rig.a.rounds} rounds of {rig.a.seconds:g} s, medians)\n")
    print("Ask, 402, decide, hold, sign, ask again, read 1 KiB. Seller, buyer and proxy share the cores. Tollpass holds every amount durably "
          "before it signs; the libraries keep no books.")
    names = [b[0] for b in all_buyers]

    def against(seller, name, n, other):
        # Within a round: neighbours in time.
        pairs = [(c["p50_ms"], r["p50_ms"]) for c, r in zip(cells[seller, name, n], cells[seller, other, n])]
        return statistics.median(c / r for c, r in pairs) if all(r for _, r in pairs) else float("nan")

    for seller in sellers:
        for n in (1, 32):
            print(f"\n### {WHAT[seller]}: {n} connection{'s' if n > 1 else ''}\n")
            print("| buyer | p50 ms | p99 ms | bought per second | proxy CPU ms each | p50 against x402-reqwest | failed |\n|---|---:|---:|---:|---:|---:|---:|")
            for name, what, _, processes in all_buyers:
                cell = cells[seller, name, n]
                median = lambda key: statistics.median(c[key] for c in cell)
                ratio = f"{against(seller, name, n, 'x402-reqwest'):.2f}x" if "x402-reqwest" in names else "–"
                # The warm-up's half second is in the CPU time, so it is in the count too.
                spent = [c["proxy_cpu"] * 1e3 / (c["bought"] * (1 + 0.5 / rig.a.seconds)) for c in cell if c["bought"]]
                each = f"{statistics.median(spent):.2f}" if processes and spent else ""
                print(f"| {what} | {median('p50_ms'):.2f} | {median('p99_ms'):.2f} | {median('per_second'):,.0f} | {each} | {ratio} | {sum(c['failed'] for c in cell)} |")
    if {"local", "x402-reqwest"} <= set(names):
        print("\n### Targets\n\n| what | measured | wanted | met |\n|---|---:|---:|---|")
        for seller in sellers:
            for name, n, most in WANTED:
                got = against(seller, name, n, "x402-reqwest")
                print(f"| local signer, {seller}, {n} connection{'s' if n > 1 else ''}, p50 | {got:.2f}x x402-reqwest | ≤ {most:g}x | {'yes' if got <= most else '**no**'} |")
            if "@x402/fetch" in names:
                for n in (1, 32):
                    got = against(seller, "local", n, "@x402/fetch")
                    print(f"| local signer, {seller}, {n} connection{'s' if n > 1 else ''}, p50 | {got:.2f}x @x402/fetch | well under 1x | {'yes' if got <= 0.8 else '**no**'} |")
    for note in rig.notes:
        print(f"- {note}")


if __name__ == "__main__":
    main()
