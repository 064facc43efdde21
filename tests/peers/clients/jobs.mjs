// What every client program does around its library: take `BODY_FILE [KIND URL]...`, ask for one after the other, and tell
// the runner. KIND is get, stream or post. On stdout: `first N` when a stream's first bytes are there, then
// `done N STATUS BODY` (base64) or `fail N WHY`. Runs in Node, Deno and Bun.
import { readFile } from "node:fs/promises";
import process from "node:process";

/** `exchange(method, url, body, kind, file)` is an async generator: it yields the answer's chunks as they arrive, returns the status. */
export async function jobs(exchange, close = () => {}) {
  const [file, ...rest] = process.argv.slice(2);
  for (let n = 0; n < rest.length / 2; n++) {
    const [kind, url] = rest.slice(2 * n, 2 * n + 2);
    try {
      const body = kind === "post" ? await readFile(file) : undefined;
      const answer = exchange(body ? "POST" : "GET", url, body, kind, file);
      const chunks = [];
      let next = await answer.next();
      for (; !next.done; next = await answer.next()) {
        if (kind === "stream" && chunks.length === 0) console.log(`first ${n}`);
        chunks.push(next.value);
      }
      console.log(`done ${n} ${next.value} ${Buffer.concat(chunks).toString("base64")}`);
    } catch (error) {
      console.log(`fail ${n} ${`${error.name}: ${error.message} ${error.cause ?? ""}`.replaceAll("\n", " ")}`);
    }
  }
  await close();
  // Kept connections would keep the process.
  process.exit(0);
}

export const BINARY = { "content-type": "application/octet-stream" };
