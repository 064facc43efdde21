// Plain node:http and node:https: the proxy and the CA come from the environment alone.
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { BINARY, jobs } from "./jobs.mjs";

await jobs(async function* (method, url, body) {
  const library = url.startsWith("https:") ? https : http;
  const request = library.request(url, body ? { method, headers: { ...BINARY, "content-length": body.length } } : { method });
  request.end(body);
  const [response] = await once(request, "response");
  yield* response;
  return response.statusCode;
});
