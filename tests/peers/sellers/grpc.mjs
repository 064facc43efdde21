// A gRPC server written on bare HTTP/2, over TLS and in clear text, that can be paid: HTTP 402 before any gRPC answer.
// /free.Echo/<cell> answers one message with its length and digest, /free.Watch/<cell> streams the two events of a cell;
// /paid.… are the same for money. Messages are bytes, so no client needs generated code.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import { events, gates, listen } from "./common.mjs";
import { demand, encode, settle } from "./exact.mjs";

const gate = gates();

const frame = (message) => {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
};

/** The one message of a unary request. */
async function message(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const whole = Buffer.concat(chunks);
  if (whole.length < 5 || whole[0] !== 0 || whole.readUInt32BE(1) !== whole.length - 5) throw new Error("not one plain message");
  return whole.subarray(5);
}

const METHODS = {
  Echo: async (stream, cell, body) => {
    const sha256 = createHash("sha256").update(body).digest("hex");
    stream.write(frame(Buffer.from(JSON.stringify({ cell, method: "POST", length: body.length, sha256 }))));
  },
  Watch: async (stream, cell) => {
    const [first, last] = events(cell);
    stream.write(frame(Buffer.from(first)));
    await gate(cell).opened;
    stream.write(frame(Buffer.from(last)));
  },
};

async function answer(stream, headers) {
  const [, price, verb, cell] = headers[":path"].match(/^\/(free|paid)\.(Echo|Watch)\/([\w-]+)$/) ?? [];
  if (!verb) return stream.respond({ ":status": 404 }, { endStream: true });
  const body = await message(stream);
  const extra = {};
  if (price === "paid") {
    const payment = headers["payment-signature"];
    const receipt = payment ? await settle(payment, cell) : undefined;
    if (!receipt?.success) {
      const url = `${headers[":scheme"]}://${headers[":authority"]}${headers[":path"]}`;
      const offer = demand(url, cell, receipt?.errorReason);
      stream.respond({ ":status": 402, "payment-required": offer, "content-type": "application/json" });
      return stream.end("{}");
    }
    extra["payment-response"] = encode(receipt);
  }
  stream.respond({ ":status": 200, "content-type": "application/grpc", ...extra }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  await METHODS[verb](stream, cell, body);
  stream.end();
}

function serve(server) {
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    // The runner's own door: it comes straight, not through the proxy.
    const control = headers[":path"].match(/^\/control\/([\w-]+)\/open$/);
    if (control) {
      gate(control[1]).open();
      return stream.respond({ ":status": 200 }, { endStream: true });
    }
    answer(stream, headers).catch((error) => {
      console.error("grpc seller:", error);
      if (!stream.destroyed) stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
    });
  });
  return listen(server);
}

const tls = { key: readFileSync(process.env.SELLER_KEY), cert: readFileSync(process.env.SELLER_CERT) };
const settings = { settings: { initialWindowSize: 1 << 20 } };
const ports = await Promise.all([serve(http2.createServer(settings)), serve(http2.createSecureServer({ ...tls, ...settings }))]);
console.log(JSON.stringify({ http: `http://127.0.0.1:${ports[0]}`, https: `https://localhost:${ports[1]}` }));
