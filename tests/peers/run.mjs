// Peer tests: unmodified clients buy through tollpass from real sellers, and the chain says what was paid.
//   node run.mjs --bin PATH [--only matrix,retries,books] [--seller a,b] [--client a,b]
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";
import { books } from "./checks/books.mjs";
import { matrix } from "./checks/matrix.mjs";
import { makeReport } from "./checks/report.mjs";
import { retries } from "./checks/retries.mjs";
import { makeBody } from "./clients/body.mjs";
import { HOME, startRig } from "./rig/rig.mjs";
import { startTollpass } from "./rig/tollpass.mjs";

const { values: options } = parseArgs({
  options: { bin: { type: "string" }, only: { type: "string" }, seller: { type: "string" }, client: { type: "string" } },
});
if (!options.bin) {
  console.error("usage: node run.mjs --bin PATH/TO/tollpass [--only matrix,retries,books] [--seller a,b] [--client a,b]");
  process.exit(2);
}
const list = (text) => text?.split(",");
const wanted = list(options.only) ?? ["matrix", "retries", "books"];
const steps = {
  matrix: (context) => matrix(context, { sellers: list(options.seller), clients: list(options.client) }),
  retries,
  books,
};

const report = makeReport();
let rig;
let proxy;
try {
  rig = await startRig();
  const body = await makeBody(rig.dir);
  proxy = await startTollpass(path.resolve(options.bin), rig.dir);
  for (const [name, step] of Object.entries(steps)) {
    if (wanted.includes(name)) await step({ rig, proxy, body, report });
    else report.skip(name, "not in --only");
  }
} catch (error) {
  report.check("the run itself", false, error.stack);
} finally {
  await proxy?.stop();
}

const good = report.finish();
if (!good && proxy) {
  // Everything else is deleted with the temporary folder; the log is what one needs next.
  const log = path.join(HOME, "out", "tollpass.log");
  await mkdir(path.dirname(log), { recursive: true });
  await writeFile(log, proxy.proc.stderr);
  console.error(`log of the program: ${path.relative(process.cwd(), log)}`);
}
await rig?.stop();
process.exit(good ? 0 : 1);
