// The payment table over the ways in. It runs in a program of its own (ways-table.mjs), with a rig and a proxy of its own, so
// that all of it can live in a network namespace where connections are redirected to the proxy.
import { spawn } from "node:child_process";
import { isolation } from "../rig/namespace.mjs";
import { HOME } from "../rig/rig.mjs";

export async function ways({ bin, report }, only) {
  const { command, why } = await isolation();
  const args = [process.execPath, "checks/ways-table.mjs", JSON.stringify({ bin, only, why })];
  const [program, ...rest] = [...command, ...args];
  const child = spawn(program, rest, { cwd: HOME, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const stop = () => child.kill("SIGTERM");
  process.once("exit", stop);
  let finished = false;
  child.on("message", ({ check, skip, done }) => {
    if (check) report.check(...check);
    if (skip) report.skip(...skip);
    finished ||= done;
  });
  const code = await new Promise((resolve) => child.on("error", resolve).on("close", resolve));
  process.off("exit", stop);
  if (!finished) throw new Error(`the program of the ways ended early (${code})`);
}
