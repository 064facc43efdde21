// The unmodified clients. Each is a process of its own that knows nothing of Tollpass but the variables below.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { promisify } from "node:util";
import { start } from "../rig/process.mjs";
import { HOME, PYTHON } from "../rig/rig.mjs";

const exec = promisify(execFile);
const require = createRequire(import.meta.url);
const script = (name) => path.join(HOME, "clients", name);
const built = (name) => path.join(HOME, ".built", name);

/** A program inside a platform package of npm, which may stand in a folder `bin` or not. */
const packaged = (name, file) => path.join(path.dirname(require.resolve(`${name}/package.json`)), file);
const node = (major) => packaged(`node${major}-${process.arch}`, "bin/node");
const deno = () => packaged(`@deno/linux-${process.arch}-glibc`, "deno");
const bun = () => packaged(`@oven/bun-linux-${{ x64: "x64", arm64: "aarch64" }[process.arch]}`, "bin/bun");

/** The first thing that looks like a version in what a command says of itself; fails if it is not installed. */
async function version(command, ...args) {
  const { stdout, stderr } = await exec(command, args);
  return `${stdout}${stderr}`.match(/\d+\.\d+(\.\d+)*/)[0];
}
/** Fails where the setup could not make one of these. */
function present(...files) {
  const missing = files.find((file) => !existsSync(file));
  if (missing) throw new Error(`${path.basename(missing)} is missing`);
}
// Not by require(): packages need not export their package.json.
const npm = async (name) => JSON.parse(await readFile(path.join(HOME, "node_modules", name, "package.json"), "utf8")).version;
const crate = async (name) =>
  (await readFile(script("reqwest/Cargo.lock"), "utf8")).match(new RegExp(`name = "${name}"\nversion = "(.*)"`))[1];

/** `command` lists the program and its first arguments, the jobs follow; `ca` is the variable by which it learns whom to trust. */
const client = (label, ca, command, version, more = {}) => ({ label, ca, command, version, ...more });
const tool = (name, ca, more) => client(name, ca, () => [process.execPath, script(`${name}.mjs`)], () => version(name, "--version"), more);
const python = (label, ca, file, module, more) =>
  client(label, ca, () => [PYTHON, script(file)], async () => (await exec(PYTHON, ["-c", module])).stdout.trim(), more);
const installed = (name) => `from importlib.metadata import version; print(version("${name}"))`;
const onNode = (major, file, what, packaged, ca = "NODE_EXTRA_CA_CERTS", more = {}) =>
  client(
    `Node ${major} ${what}`,
    ca,
    () => [node(major), "--disable-warning=UNDICI-EHPA", script(`${file}.mjs`)],
    async () => [await version(node(major), "--version"), packaged && (await npm(packaged))].filter(Boolean).join(", "),
    more,
  );
const everyLibrary = (major, undici) => ({
  [`node${major}`]: onNode(major, "fetch", "fetch"),
  [`node${major}-http`]: onNode(major, "node_http", "http(s)"),
  [`node${major}-axios`]: onNode(major, "axios", "axios", "axios"),
  [`node${major}-undici`]: onNode(major, "undici", "undici", undici),
  [`node${major}-got`]: onNode(major, "got", "got", "got"),
});

// Node 20 is not among the packages: it is there, or it is not.
async function node20() {
  const own = process.versions.node;
  if (!own.startsWith("20.")) throw new Error(`the machine's own Node is ${own}`);
  return own;
}
const onNode20 = (file, what, packaged, more = { deaf: true }) =>
  client(
    `Node 20 ${what}`,
    "NODE_EXTRA_CA_CERTS",
    () => [process.execPath, script(`${file}.mjs`)],
    async () => [await node20(), packaged && (await npm(packaged))].filter(Boolean).join(", "),
    more,
  );

const GRPC_ROOTS = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH";

/** `speaks` is http where nothing else is said; who is `deaf` to proxy variables has only the transparent mode. */
export const CLIENTS = {
  curl: tool("curl", "CURL_CA_BUNDLE"),
  wget: tool("wget", "WGETRC"),
  git: tool("git", "GIT_SSL_CAINFO", { speaks: "git" }),
  urllib: python("Python urllib", "SSL_CERT_FILE", "urllib_client.py", "import platform; print(platform.python_version())"),
  requests: python("Python requests", "REQUESTS_CA_BUNDLE", "requests_client.py", installed("requests")),
  httpx: python("Python httpx", "SSL_CERT_FILE", "httpx_client.py", installed("httpx")),
  aiohttp: python("Python aiohttp (trust_env)", "SSL_CERT_FILE", "aiohttp_client.py", installed("aiohttp")),
  node20: onNode20("fetch", "fetch"),
  "node20-http": onNode20("node_http", "http(s)"),
  // It reads the variables itself.
  "node20-axios": onNode20("axios", "axios", "axios", {}),
  "node20-undici": onNode20("undici", "undici", "undici7"),
  ...everyLibrary(22, "undici7"),
  ...everyLibrary(24, "undici"),
  deno: client(
    "Deno fetch",
    "DENO_CERT",
    () => [deno(), "run", "--quiet", "--allow-all", "--no-config", "--no-lock", script("fetch.mjs")],
    () => version(deno(), "--version"),
  ),
  bun: client("Bun fetch", "NODE_EXTRA_CA_CERTS", () => [bun(), script("fetch.mjs")], () => version(bun(), "--version")),
  go: client("Go net/http", "SSL_CERT_FILE", () => [built("peer-go")], () => version(path.join(path.dirname(PYTHON), "go"), "version", built("peer-go"))),
  java: client("Java HttpClient", "JAVA_TOOL_OPTIONS", () => ["java", "-cp", built("java"), "Client"], () => {
    present(built("java"));
    return version("java", "-version");
  }),
  reqwest: client("Rust reqwest", "SSL_CERT_FILE", () => [built("peer-reqwest")], () => {
    present(built("peer-reqwest"));
    return crate("reqwest");
  }),
  "grpc-python": python("Python gRPC grpcio", GRPC_ROOTS, "grpc_client.py", installed("grpcio"), { speaks: "grpc" }),
  "grpc-js": onNode(24, "grpc_js", "gRPC grpc-js", "@grpc/grpc-js", GRPC_ROOTS, { speaks: "grpc" }),
  chromium: client("Chromium", "NSS database in HOME", () => [process.execPath, script("chromium.mjs")], async () => {
    // Without it there is no way to tell Chromium about the CA.
    await exec("sh", ["-c", "command -v certutil"]);
    return version("chromium", "--version");
  }),
};

/** What an operator sets for every agent: whom to trust. */
export const trustEnv = ({ ca, bundle }) => ({
  NODE_EXTRA_CA_CERTS: ca, DENO_CERT: ca,
  SSL_CERT_FILE: bundle, REQUESTS_CA_BUNDLE: bundle, CURL_CA_BUNDLE: bundle, GIT_SSL_CAINFO: bundle,
  [GRPC_ROOTS]: bundle,
});

/** And for one that is to use the proxy. Both cases, because no two clients agree; NO_PROXY is empty on purpose: the sellers are on loopback. */
export function agentEnv({ proxy, ...trust }) {
  const url = `http://${proxy}`;
  return {
    HTTP_PROXY: url, http_proxy: url, HTTPS_PROXY: url, https_proxy: url, ALL_PROXY: url, all_proxy: url,
    NO_PROXY: "", no_proxy: "", grpc_proxy: url,
    NODE_USE_ENV_PROXY: "1", ...trustEnv(trust),
  };
}

/**
 * And what cannot be said in variables that everyone knows: a home with the files that wget, Java and Chromium read. Without
 * `proxy` for agents that are redirected.
 */
export async function agentHome(dir, { proxy, ca, bundle, truststore }) {
  const home = path.join(dir, "agent");
  const at = (...names) => path.join(home, ...names);
  await mkdir(at(".pki", "nssdb"), { recursive: true });
  await writeFile(at("wgetrc"), `ca_certificate = ${bundle}\n`);
  // Absent programs are reported where their client is skipped.
  const optional = (command, ...args) => exec(command, args).catch((error) => error.code === "ENOENT" || Promise.reject(error));
  const store = `sql:${at(".pki", "nssdb")}`;
  await optional("certutil", "-d", store, "-N", "--empty-password");
  await optional("certutil", "-d", store, "-A", "-t", "C,,", "-n", "tollpass", "-i", ca);
  const trust = existsSync(truststore) ? truststore : at("truststore.p12");
  if (trust !== truststore) {
    await optional("keytool", "-importcert", "-noprompt", "-file", ca, "-keystore", trust, "-storetype", "PKCS12", "-storepass", PASSWORD);
  }
  const [host, port] = proxy?.split(":") ?? [];
  const java = host ? ["http", "https"].flatMap((scheme) => [`-D${scheme}.proxyHost=${host}`, `-D${scheme}.proxyPort=${port}`]) : [];
  return {
    HOME: home, WGETRC: at("wgetrc"), DENO_NO_UPDATE_CHECK: "1",
    JAVA_TOOL_OPTIONS: [...java, `-Djavax.net.ssl.trustStore=${trust}`, `-Djavax.net.ssl.trustStorePassword=${PASSWORD}`].join(" "),
  };
}
const PASSWORD = "changeit";

/** `env` with no other trust than by the variable that this client is said to read. */
export function envOf(name, env) {
  const others = Object.values(CLIENTS).map(({ ca }) => ca).filter((ca) => ca !== CLIENTS[name].ca);
  return Object.fromEntries(Object.entries(env).filter(([variable]) => !others.includes(variable)));
}

// A client that says nothing for so long will say nothing more.
const PATIENCE = 40_000;

// Nothing of the surrounding shell: it may have proxy and CA variables of its own.
const { PATH, HOME: home = "/" } = process.env;
const BARE = { PATH, HOME: home, LANG: "C.UTF-8" };

/**
 * Runs one client over `[{kind, url}]`, one after the other: `{status, body}` for each, or status 0 and the `problem`.
 * `onFirst` is told the number of a stream whose first bytes the client has; `before` is put before the command.
 */
export async function run(name, env, jobs, bodyFile, { onFirst = () => {}, before = [] } = {}) {
  const [command, ...args] = [...before, ...CLIENTS[name].command()];
  const answers = [];
  const all = [...args, bodyFile, ...jobs.flatMap(({ kind, url }) => [kind, url])];
  const read = (line) => {
    waiting.refresh();
    const [, what, number, more] = line.match(/^(first|done|fail) (\d+)(?: (.*))?$/) ?? [];
    if (what === "first") onFirst(Number(number));
    if (what === "fail") answers[number] = { status: 0, body: "", problem: more };
    if (what === "done") {
      const [status, body = ""] = more.split(" ");
      answers[number] = { status: Number(status), body: Buffer.from(body, "base64").toString("utf8") };
    }
  };
  const proc = start(command, all, { env, inherit: BARE, name, onLine: read });
  const waiting = setTimeout(() => proc.stop(), PATIENCE);
  await proc.closed;
  clearTimeout(waiting);
  const silent = `no answer (ended with ${proc.exited}): ${proc.stderr.trim().split("\n").at(-1)}`;
  return jobs.map((_, number) => answers[number] ?? { status: 0, body: "", problem: silent });
}

/** Runs one client once. */
export async function request(name, env, url, method, bodyFile) {
  const [answer] = await run(name, env, [{ kind: method === "POST" ? "post" : "get", url }], bodyFile);
  return answer;
}

/** curl that follows redirects, as an agent's HTTP library would by default. */
export async function follow(env, url) {
  const args = ["-sS", "-L", "--max-redirs", "12", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", url];
  const { stdout, stderr } = await exec("curl", args, { env: { ...BARE, ...env } }).catch((error) => error);
  const [status, redirects] = stdout.trim().split(" ").map(Number);
  return { status, redirects, problem: stderr.trim() };
}
