// Child processes that end with us: every one is stopped by the id we got from spawn, never by name.
import { spawn } from "node:child_process";

const running = new Set();

/** Starts a program; `stop()` sends SIGTERM, then SIGKILL if it does not go. Its stderr is kept (last 64 kB). `onLine` gets each line of its stdout. */
export function start(command, args, { env = {}, inherit = process.env, cwd, name = command, onLine = () => {} } = {}) {
  const child = spawn(command, args, { cwd, env: { ...inherit, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const proc = { name, child, stderr: "", exited: null, lines: [] };
  const waiting = new Set();
  const wake = () => waiting.forEach((check) => check());
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop();
    parts.forEach(onLine);
    proc.lines.push(...parts);
    if (proc.lines.length > 4000) proc.lines.splice(0, 2000);
    wake();
  });
  child.stderr.setEncoding("utf8").on("data", (text) => (proc.stderr = (proc.stderr + text).slice(-65536)));
  const done = new Promise((resolve) => {
    const end = (how) => {
      proc.exited ??= how;
      running.delete(proc);
      wake();
      resolve();
    };
    child.on("error", (error) => end(error.message));
    child.on("exit", (code, signal) => end(signal ?? code));
  });
  running.add(proc);
  /** Ended, and all that it wrote has been read. */
  proc.closed = new Promise((resolve) => child.on("close", resolve).on("error", resolve));

  /** First stdout line for which `match` gives something other than undefined. */
  proc.line = (match, timeout = 60_000) =>
    new Promise((resolve, reject) => {
      let seen = 0;
      const finish = (settle, value) => {
        clearTimeout(timer);
        waiting.delete(check);
        settle(value);
      };
      const fail = (why) => finish(reject, new Error(`${name}: ${why}\n${proc.stderr.slice(-4000)}`));
      const check = () => {
        for (; seen < proc.lines.length; seen++) {
          const found = match(proc.lines[seen]);
          if (found !== undefined) return finish(resolve, found);
        }
        if (proc.exited !== null) fail(`ended (${proc.exited}) before it was ready`);
      };
      const timer = setTimeout(() => fail(`not ready after ${timeout} ms`), timeout);
      waiting.add(check);
      check();
    });

  proc.stop = async (grace = 5_000) => {
    if (proc.exited === null) {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), grace);
      await done;
      clearTimeout(timer);
    }
  };
  return proc;
}

/** Matcher for programs that print one JSON object when they listen. */
export const json = (line) => {
  try {
    const value = JSON.parse(line);
    return value !== null && typeof value === "object" ? value : undefined;
  } catch {
    return undefined;
  }
};

export const stopAll = () => Promise.all([...running].map((proc) => proc.stop()));

// The last resort, synchronous: whatever way this process ends, no child outlives it.
process.on("exit", () => running.forEach((proc) => proc.child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => stopAll().finally(() => process.exit(130)));
}

/** Polls until `condition` gives a truthy value. */
export async function until(condition, what, timeout = 30_000, every = 25) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeout} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, every));
  }
}
