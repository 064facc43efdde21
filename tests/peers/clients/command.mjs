// Runs a command: yields its stdout as it comes, returns its stderr, throws when it fails.
import { spawn } from "node:child_process";
import { once } from "node:events";

export async function* commandLine(command, args, options = {}) {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(child, "close");
  let told = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (told += text));
  yield* child.stdout;
  const [code] = await ended;
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${told.trim()}`);
  return told.trim();
}
