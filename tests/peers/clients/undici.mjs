// Plain undici, the package and not what Node has built in: the proxy and the CA come from the environment alone.
import process from "node:process";
import { BINARY, jobs } from "./jobs.mjs";

// The environment is read by the Node inside; undici 8 does not share its dispatcher with those before Node 24.
const { request } = await import(parseInt(process.versions.node, 10) < 24 ? "undici7" : "undici");

await jobs(async function* (method, url, body) {
  // Its proxy agent writes the host into the caller's headers, so they can not be used twice.
  const response = await request(url, body ? { method, body, headers: { ...BINARY } } : { method });
  yield* response.body;
  return response.statusCode;
});
