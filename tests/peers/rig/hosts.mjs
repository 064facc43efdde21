// A hosts file for one program alone. The proxy has one that knows the shop's name: a client that gets an answer from that name
// was proxied; and Go, Java and Chromium never proxy what they know as loopback. In transparent mode clients have one that
// leads them to an address where nobody listens.
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { promisify } from "node:util";

const exec = promisify(execFile);

// What is mounted there already may be a file that is gone, over which nothing can be mounted.
const MOUNT = 'umount /etc/hosts 2>/dev/null; mount --bind "$0" /etc/hosts && exec "$@"';

/**
 * What to put before a program so that it sees these lines as its hosts file, written to `file`: a mount namespace of its own.
 * Undefined where none can be made.
 */
export async function withHosts(file, lines) {
  await writeFile(file, `127.0.0.1 localhost\n${lines}\n`);
  const flags = process.getuid() === 0 ? ["-m"] : ["-Urm"];
  const before = ["unshare", ...flags, "sh", "-c", MOUNT, file];
  return exec(before[0], [...before.slice(1), "true"]).then(() => before, () => undefined);
}
