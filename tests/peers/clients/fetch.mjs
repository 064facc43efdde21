// Plain fetch, in Node, Deno and Bun: the proxy and the CA come from the environment alone.
import { BINARY, jobs } from "./jobs.mjs";

await jobs(async function* (method, url, body) {
  const response = await fetch(url, body ? { method, body, headers: BINARY } : { method });
  yield* response.body;
  return response.status;
});
