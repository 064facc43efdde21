// Plain got: the proxy and the CA come from the environment alone.
import { once } from "node:events";
import got from "got";
import { BINARY, jobs } from "./jobs.mjs";

await jobs(async function* (method, url, body) {
  const stream = got.stream(url, body ? { method, body, headers: BINARY, throwHttpErrors: false } : { method, throwHttpErrors: false });
  const [response] = await once(stream, "response");
  yield* stream;
  return response.statusCode;
});
