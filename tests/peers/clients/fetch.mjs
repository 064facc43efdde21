// Plain Node fetch: the proxy and the CA come from the environment alone.
import { readFile } from "node:fs/promises";

const [url, method, file] = process.argv.slice(2);
const init = { method };
if (method === "POST") {
  init.body = await readFile(file);
  init.headers = { "content-type": "application/octet-stream" };
}
const response = await fetch(url, init);
console.log(JSON.stringify({ status: response.status, body: await response.text() }));
