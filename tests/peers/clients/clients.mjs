// The unmodified clients. Each is a process of its own that knows nothing of Tollpass but the variables below.
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { HOME, PYTHON } from "../rig/rig.mjs";

/** The real Node binary of one major version, from its platform package on npm. */
const node = (major) =>
  path.join(path.dirname(createRequire(import.meta.url).resolve(`node${major}-${process.arch}/package.json`)), "bin", "node");

const script = (name) => path.join(HOME, "clients", name);
const fetchWith = (major) => ({
  command: () => node(major),
  args: (url, method, file) => ["--disable-warning=UNDICI-EHPA", script("fetch.mjs"), url, method, file],
});
const python = (name) => ({ command: () => PYTHON, args: (url, method, file) => [script(name), url, method, file] });

export const CLIENTS = {
  curl: {
    command: () => "curl",
    args: (url, method, file) => [
      "-sS", "--max-time", "30", "-w", "\n%{http_code}",
      ...(method === "POST" ? ["--data-binary", `@${file}`, "-H", "content-type: application/octet-stream"] : []),
      url,
    ],
    // The status comes after the body, on a line of its own.
    read: (out) => ({ status: Number(out.slice(out.lastIndexOf("\n") + 1)), body: out.slice(0, out.lastIndexOf("\n")) }),
  },
  requests: python("requests_client.py"),
  httpx: python("httpx_client.py"),
  node22: fetchWith(22),
  node24: fetchWith(24),
};

/** What an operator sets for an agent. Both cases, because no two clients agree; NO_PROXY is empty on purpose: the sellers are on loopback. */
export function agentEnv({ proxy, ca, bundle }) {
  const url = `http://${proxy}`;
  return {
    HTTP_PROXY: url, http_proxy: url, HTTPS_PROXY: url, https_proxy: url, ALL_PROXY: url, all_proxy: url,
    NO_PROXY: "", no_proxy: "",
    NODE_USE_ENV_PROXY: "1", NODE_EXTRA_CA_CERTS: ca,
    SSL_CERT_FILE: bundle, REQUESTS_CA_BUNDLE: bundle, CURL_CA_BUNDLE: bundle,
  };
}

// Nothing of the surrounding shell: it may have proxy and CA variables of its own.
const { PATH, HOME: home = "/" } = process.env;

const run = (command, args, env) =>
  new Promise((resolve) => {
    const options = { env: { PATH, HOME: home, LANG: "C.UTF-8", ...env }, timeout: 40_000, killSignal: "SIGKILL", maxBuffer: 32 << 20 };
    execFile(command, args, options, (error, stdout, stderr) => resolve({ error, stdout, stderr }));
  });

/** Runs one client once: `{status, body}`, or status 0 and what went wrong. */
export async function request(name, env, url, method, bodyFile) {
  const { command, args, read = JSON.parse } = CLIENTS[name];
  const { error, stdout, stderr } = await run(command(), args(url, method, bodyFile), env);
  if (error) return { status: 0, body: "", problem: `${stderr.trim().split("\n").at(-1)} (${error.code ?? error.signal})` };
  try {
    return read(stdout.trimEnd());
  } catch {
    return { status: 0, body: "", problem: `unreadable output: ${stdout.slice(0, 200)}` };
  }
}

/** curl that follows redirects, as an agent's HTTP library would by default. */
export async function follow(env, url) {
  const args = ["-sS", "-L", "--max-redirs", "12", "--max-time", "30", "-o", "/dev/null", "-w", "%{http_code} %{num_redirects}", url];
  const { stdout, stderr } = await run("curl", args, env);
  const [status, redirects] = stdout.trim().split(" ").map(Number);
  return { status, redirects, problem: stderr.trim() };
}
