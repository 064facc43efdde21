// A check in a program of its own, so that all of it, rig and proxy included, can live in a network namespace. The two halves:
// the step that starts the program, and the report inside, which tells its parent what it found.
import { spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { isolation } from "../rig/namespace.mjs";
import { HOME } from "../rig/rig.mjs";
import { makeReport } from "./report.mjs";

/** Runs `program` with `task` as its argument, in namespaces where that is possible; else the task says `why` not. */
export async function apart(program, task, report) {
  const { command, why } = await isolation();
  const [first, ...rest] = [...command, process.execPath, program, JSON.stringify({ ...task, why })];
  const child = spawn(first, rest, { cwd: HOME, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const stop = () => child.kill("SIGTERM");
  process.once("exit", stop);
  let finished = false;
  let result;
  child.on("message", ({ check, skip, done, value }) => {
    if (check) report.check(...check);
    if (skip) report.skip(...skip);
    finished ||= done;
    if (done) result = value;
  });
  const code = await new Promise((resolve) => child.on("error", resolve).on("close", resolve));
  process.off("exit", stop);
  if (!finished) throw new Error(`${program} ended early (${code})`);
  return result;
}

/**
 * Inside: runs `main(task, report)`, tells the parent what it found and what it gave back, and ends. `main` puts into `kept` the
 * rig to stop and the log to keep after a failure.
 */
export async function inside(name, main) {
  const tell = (message) => new Promise((resolve) => process.send(message, resolve));
  // Without a parent nobody reads the result.
  process.once("disconnect", () => process.exit(1));
  const mine = makeReport();
  let failed = false;
  const report = {
    ...mine,
    check(name, good, detail) {
      failed ||= !good;
      tell({ check: [name, good, detail] });
      return mine.check(name, good, detail);
    },
    skip: (...skip) => void tell({ skip }),
  };
  const kept = { rig: undefined, log: "" };
  let value;
  try {
    value = await main(JSON.parse(process.argv[2]), report, kept);
  } catch (error) {
    report.check(`the ${name}`, false, error.stack);
  }
  if (failed && kept.log) {
    await mkdir(path.join(HOME, "out"), { recursive: true });
    await writeFile(path.join(HOME, "out", `tollpass-${name}.log`), kept.log);
  }
  await tell({ done: true, value });
  await kept.rig?.stop();
  process.exit(0);
}
