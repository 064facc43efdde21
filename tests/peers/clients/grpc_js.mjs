// Plain @grpc/grpc-js: the proxy and the CA come from the environment alone. A stream is a server-streaming call, everything
// else a unary one; messages are bytes.
import { Client, credentials } from "@grpc/grpc-js";
import { jobs } from "./jobs.mjs";

const bytes = (value) => value;
const clients = new Map();

function connect({ protocol, host }) {
  if (!clients.has(host)) {
    clients.set(host, new Client(host, protocol === "https:" ? credentials.createSsl() : credentials.createInsecure()));
  }
  return clients.get(host);
}

await jobs(async function* (method, url, body = Buffer.alloc(0), kind) {
  const at = new URL(url);
  const client = connect(at);
  const options = { deadline: Date.now() + 30_000 };
  if (kind === "stream") {
    yield* client.makeServerStreamRequest(at.pathname, bytes, bytes, body, options);
  } else {
    yield await new Promise((resolve, reject) =>
      client.makeUnaryRequest(at.pathname, bytes, bytes, body, options, (error, value) => (error ? reject(error) : resolve(value))));
  }
  // Anything but OK has thrown.
  return 200;
});
