// The ways into the proxy, down to the bytes: each opens a connection on which HTTP can be spoken to one target.
// `at` says where things are: `{proxy, socks, https, ca}`; a target is `{scheme, host, port, address?}`; `address` is what a client of
// the transparent way was told by its resolver.
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";

const REFUSED = { 1: "general failure", 2: "not allowed", 3: "network unreachable", 4: "host unreachable", 5: "refused", 7: "command", 8: "address type" };

export function tcp(host, port) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, noDelay: true }, () => resolve(socket));
    socket.once("error", reject);
  });
}

/** Reads until `enough` says how many of the bytes seen are wanted; what is beyond them stays in the socket. */
export function take(socket, enough) {
  return new Promise((resolve, reject) => {
    let seen = Buffer.alloc(0);
    const finish = (settle, value) => {
      socket.off("readable", read).off("end", ended).off("error", failed).off("close", ended);
      settle(value);
    };
    const ended = () => finish(reject, new Error(`the connection ended after ${seen.length} bytes: ${seen.toString("latin1").slice(0, 300)}`));
    const failed = (error) => finish(reject, error);
    const read = () => {
      for (let chunk; (chunk = socket.read()) !== null; ) {
        seen = Buffer.concat([seen, chunk]);
        const wanted = enough(seen);
        if (!wanted) continue;
        if (wanted < seen.length) socket.unshift(seen.subarray(wanted));
        return finish(resolve, seen.subarray(0, wanted));
      }
    };
    socket.on("readable", read).on("end", ended).on("error", failed).on("close", ended);
  });
}

const bytes = (n) => (seen) => (seen.length >= n ? n : 0);
const split = (address) => {
  const at = address.lastIndexOf(":");
  return [address.slice(0, at).replace(/^\[|\]$/g, ""), Number(address.slice(at + 1))];
};
export const authority = ({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`;

async function connectTunnel({ proxy }, target) {
  const socket = await tcp(...split(proxy));
  socket.write(`CONNECT ${authority(target)} HTTP/1.1\r\nHost: ${authority(target)}\r\n\r\n`);
  const end = (seen) => seen.indexOf("\r\n\r\n") + 4;
  const head = (await take(socket, (seen) => (end(seen) > 3 ? end(seen) : 0))).toString("latin1");
  if (!/^HTTP\/1\.1 200 /.test(head)) throw new Error(`CONNECT was answered: ${head.split("\r\n")[0]}`);
  return socket;
}

/** The same as a stream of an HTTP/2 connection to the proxy. */
async function connectStream({ proxy }, target) {
  // As in talk.mjs: a body that waits to be sent is more than the default allows.
  const session = http2.connect(`http://${proxy}`, { maxSessionMemory: 64 });
  const stream = session.request({ ":method": "CONNECT", ":authority": authority(target) });
  stream.once("close", () => session.destroy());
  const status = await new Promise((resolve, reject) => {
    session.once("error", reject);
    stream.once("error", reject).once("response", (headers) => resolve(headers[":status"]));
  });
  session.on("error", () => {});
  if (status !== 200) throw new Error(`CONNECT was answered: ${status}`);
  return stream;
}

/** TLS to the proxy itself, whose certificate has to be good for its address. */
const secureProxy = async ({ https, ca }, target, version) => secure(await tcp(...split(https)), { ca, host: split(https)[0], version });

/** An address as SOCKS5 writes it: IPv4, IPv6 or a name. */
function socksAddress(host) {
  if (net.isIPv4(host)) return Buffer.from([1, ...host.split(".").map(Number)]);
  if (!net.isIPv6(host)) return Buffer.concat([Buffer.from([3, host.length]), Buffer.from(host)]);
  const [front, back] = host.split("::").map((half) => half.split(":").filter(Boolean).map((group) => parseInt(group, 16)));
  const groups = back ? [...front, ...Array(8 - front.length - back.length).fill(0), ...back] : front;
  return Buffer.from([4, ...groups.flatMap((group) => [group >> 8, group & 0xff])]);
}

/** SOCKS5 (RFC 1928, 1929). Without a user no authentication is offered, with one only user and password. */
export async function socks5({ socks }, target, { user, password, methods = [user ? 2 : 0], command = 1 } = {}) {
  const socket = await tcp(...split(socks));
  socket.write(Buffer.from([5, methods.length, ...methods]));
  const [, method] = await take(socket, bytes(2));
  if (!methods.includes(method)) throw new Error(`SOCKS5: no method agreed (${method})`);
  if (method === 2) {
    const text = (value) => Buffer.concat([Buffer.from([Buffer.byteLength(value)]), Buffer.from(value)]);
    socket.write(Buffer.concat([Buffer.from([1]), text(user), text(password)]));
    const [, status] = await take(socket, bytes(2));
    if (status !== 0) throw new Error(`SOCKS5: credentials refused (${status})`);
  }
  const port = Buffer.from([target.port >> 8, target.port & 0xff]);
  socket.write(Buffer.concat([Buffer.from([5, command, 0]), socksAddress(target.host), port]));
  const length = (seen) => 6 + { 1: 4, 3: 1 + seen[4], 4: 16 }[seen[3]];
  const [, answer] = await take(socket, (seen) => (seen.length >= 5 && seen.length >= length(seen) ? length(seen) : 0));
  if (answer !== 0) throw new Error(`SOCKS5: ${REFUSED[answer] ?? "refused"} (${answer})`);
  return socket;
}

const transparent = (at, target) => tcp(target.address, target.port);

/** `schemes`: what targets a way leads to. `absolute`: requests name the whole URL, since nothing before them named the target. */
export const WAYS = {
  direct: { schemes: ["http", "https"], open: (at, target) => tcp(target.host, target.port) },
  absolute: { schemes: ["http"], absolute: true, open: (at) => tcp(...split(at.proxy)) },
  "https-proxy": { schemes: ["http"], absolute: true, open: secureProxy },
  connect: { schemes: ["https"], open: connectTunnel },
  "connect-in-h2": { schemes: ["https"], open: connectStream },
  "in-connect": { schemes: ["http"], open: connectTunnel },
  // Both ways to say who one is: nothing at all, and agent and token.
  socks5: {
    schemes: ["http", "https"],
    open: (at, target) => socks5(at, target, target.scheme === "https" ? at.credentials : {}),
  },
  "transparent-v4": { schemes: ["http", "https"], open: transparent },
  "transparent-v6": { schemes: ["http", "https"], open: transparent },
};

export const ALPN = { h1: "http/1.1", h2: "h2" };

/** TLS on an open connection; the certificate has to be good for the name asked for, and the protocol the one offered. */
export function secure(socket, { ca, servername, host, version }) {
  return new Promise((resolve, reject) => {
    const stream = tls.connect({ socket, ca, servername, host, ALPNProtocols: [ALPN[version]] }, () => {
      if (stream.alpnProtocol === ALPN[version]) return resolve(stream);
      stream.destroy();
      reject(new Error(`ALPN chose ${stream.alpnProtocol || "nothing"}, not ${ALPN[version]}`));
    });
    stream.once("error", reject);
    stream.once("close", () => reject(new Error("closed in the TLS handshake")));
  });
}

/** A connection by one way on which `version` can be spoken at once. */
export async function enter(way, at, target, version) {
  const socket = await WAYS[way].open(at, target, version);
  socket.on("error", () => {});
  if (target.scheme === "http") return socket;
  const stream = await secure(socket, { ca: at.ca, servername: target.host, version });
  stream.on("error", () => {});
  return stream;
}
