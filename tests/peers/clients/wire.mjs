// A bare client for the retry tests, where the moment of hanging up matters: absolute-form HTTP/1.1 on a connection of its own.
import http from "node:http";

/** Sends a GET through the proxy. `answer` resolves with `{status, body}`, or `{status: 0}` after `hangUp()` or an error. */
export function ask(proxy, url) {
  const [host, port] = proxy.split(":");
  const headers = { host: new URL(url).host, "user-agent": "wire", accept: "*/*", connection: "close" };
  const req = http.request({ host, port, path: url, method: "GET", headers, agent: false });
  const answer = new Promise((resolve) => {
    const failed = (error) => resolve({ status: 0, body: "", problem: error.message });
    req.on("error", failed);
    req.on("response", (res) => {
      const chunks = [];
      res.on("data", (chunk) => chunks.push(chunk));
      res.on("end", () => resolve({ status: res.statusCode, body: Buffer.concat(chunks).toString("utf8") }));
      res.on("error", failed);
    });
  });
  req.end();
  return { answer, hangUp: () => req.destroy(new Error("hung up")) };
}

/** The pause a retrying client makes between two attempts. It belongs to the client modelled here; nothing is synchronised by it. */
export const backOff = () => new Promise((resolve) => setTimeout(resolve, 250));
