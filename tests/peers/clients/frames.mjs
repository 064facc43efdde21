// WebSocket (RFC 6455) and gRPC framing, as much as the ways need, for both ends of the wire.
import { createHash, randomBytes } from "node:crypto";

export const TEXT = 1;
export const BINARY = 2;
export const CLOSE = 8;
export const PING = 9;
export const PONG = 10;

export const acceptKey = (key) =>
  createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");

/** One unfragmented frame; clients mask. */
export function frame(opcode, payload, masked) {
  const length = Buffer.alloc(payload.length < 126 ? 1 : payload.length < 65536 ? 3 : 9);
  if (length.length === 1) length[0] = payload.length;
  if (length.length === 3) (length[0] = 126), length.writeUInt16BE(payload.length, 1);
  if (length.length === 9) (length[0] = 127), length.writeBigUInt64BE(BigInt(payload.length), 1);
  const head = Buffer.concat([Buffer.from([0x80 | opcode]), length]);
  if (!masked) return Buffer.concat([head, payload]);
  head[1] |= 0x80;
  const mask = randomBytes(4);
  return Buffer.concat([head, mask, payload.map((byte, i) => byte ^ mask[i % 4])]);
}

/** The first whole frame in `bytes` as `{opcode, payload, masked, rest}`, or undefined. */
export function unframe(bytes) {
  if (bytes.length < 2) return undefined;
  const masked = (bytes[1] & 0x80) !== 0;
  let [length, at] = [bytes[1] & 0x7f, 2];
  if (length === 126) {
    if (bytes.length < 4) return undefined;
    [length, at] = [bytes.readUInt16BE(2), 4];
  } else if (length === 127) {
    if (bytes.length < 10) return undefined;
    [length, at] = [Number(bytes.readBigUInt64BE(2)), 10];
  }
  const from = at + (masked ? 4 : 0);
  if (bytes.length < from + length) return undefined;
  const raw = bytes.subarray(from, from + length);
  const payload = masked ? raw.map((byte, i) => byte ^ bytes[at + (i % 4)]) : raw;
  return { opcode: bytes[0] & 0x0f, payload: Buffer.from(payload), masked, rest: bytes.subarray(from + length) };
}

/** The frames that come out of a stream, until it ends or the caller has enough; the stream stays usable. */
export async function* frames(stream) {
  let seen = Buffer.alloc(0);
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    seen = Buffer.concat([seen, chunk]);
    for (let one; (one = unframe(seen)); seen = one.rest) yield one;
  }
}

/** A length-prefixed, uncompressed gRPC message. */
export function message(payload) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

/** Takes a whole gRPC body apart; a cut message is an error. */
export function messages(body) {
  const found = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1);
    if (body[at] !== 0 || at + 5 + length > body.length) throw new Error("a gRPC message is cut or compressed");
    found.push(body.subarray(at + 5, at + 5 + length));
    at += 5 + length;
  }
  return found;
}

export async function whole(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
