// Peer tests: unmodified clients buy through tollpass from real sellers, and the chain says what was paid.
//   node run.mjs --bin PATH [--signer local|mpc] [--only matrix,retries,clients,books,ways,thief,recover] [--seller a,b] [--client a,b] [--way a,b]
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { books } from "./checks/books.mjs";
import { clients } from "./checks/clients.mjs";
import { matrix, matrixCells } from "./checks/matrix.mjs";
import { recover } from "./checks/recover.mjs";
import { makeReport } from "./checks/report.mjs";
import { retries, RETRY_CELLS } from "./checks/retries.mjs";
import { CELL, thief } from "./checks/thief.mjs";
import { ways } from "./checks/ways.mjs";
import { makeBody } from "./clients/body.mjs";
import { startMpc } from "./rig/mpc.mjs";
import { HOME, startRig } from "./rig/rig.mjs";
import { startTollpass } from "./rig/tollpass.mjs";
import { payeeOf } from "./sellers/common.mjs";

const { values: options } = parseArgs({
  options: {
    bin: { type: "string" }, signer: { type: "string", default: "local" },
    only: { type: "string" }, seller: { type: "string" }, client: { type: "string" }, way: { type: "string" },
  },
});
const list = (text) => text?.split(",");
const steps = {
  matrix: (context) => matrix(context, { sellers: list(options.seller), clients: list(options.client) }),
  retries,
  // How a client speaks, and by which way it comes, has nothing to do with who signs: once is enough.
  ...(options.signer === "local" ? { clients: (context) => clients(context, list(options.client)) } : {}),
  books,
  ...(options.signer === "local" ? { ways: (context) => ways(context, list(options.way)) } : {}),
  // What only a wallet in three shares has; both need the share that the proxy holds, so they come last.
  ...(options.signer === "mpc" ? { thief, recover } : {}),
};
if (!options.bin || !["local", "mpc"].includes(options.signer)) {
  const usage = "node run.mjs --bin PATH/TO/tollpass [--signer local|mpc] [--only matrix,retries,clients,books,ways,thief,recover] [--seller a,b] [--client a,b] [--way a,b]";
  console.error(`usage: ${usage}`);
  process.exit(2);
}
const bin = path.resolve(options.bin);
const wanted = list(options.only) ?? Object.keys(steps);

const report = makeReport();
let rig;
let mpc;
let proxy;
try {
  rig = await startRig();
  const body = await makeBody(rig.dir);
  const payees = [...matrixCells(Object.keys(rig.sellers)), ...RETRY_CELLS, CELL].map(payeeOf);
  if (options.signer === "mpc") {
    mpc = await startMpc(bin, rig.dir, { payees, recovery: payeeOf("recovery") });
    await rig.chain.mint(mpc.address, 1_000n * 10n ** 6n);
  }
  proxy = await startTollpass(bin, rig, mpc);
  for (const [name, step] of Object.entries(steps)) {
    if (wanted.includes(name)) await step({ rig, mpc, proxy, bin, payees, body, report });
    else report.skip(name, "not in --only");
  }
} catch (error) {
  report.check("the run itself", false, error.stack);
} finally {
  await proxy?.stop();
  await mpc?.stop();
}

const good = report.finish();
if (!good && proxy) {
  // Everything else is deleted with the temporary folder; the log is what one needs next.
  const out = (name) => path.join(HOME, "out", name);
  await mkdir(out(""), { recursive: true });
  await writeFile(out("tollpass.log"), proxy.proc.stderr);
  if (mpc) await writeFile(out("cosigner.log"), mpc.cosigner.stderr);
  console.error(`logs of the programs: ${path.relative(process.cwd(), out(""))}`);
}
await rig?.stop();
process.exit(good ? 0 : 1);
