// `git http-backend` behind a Node request: git's own server side, spoken to by CGI.
import { spawn } from "node:child_process";

/** Serves one request for `root/repository`; `req.url` is what follows the repository's own path. */
export function gitBackend(req, res, { root, repository, headers }) {
  const [tail, query = ""] = req.url.split("?");
  const env = {
    PATH: process.env.PATH,
    GIT_PROJECT_ROOT: root,
    GIT_HTTP_EXPORT_ALL: "1",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_PROTOCOL: req.headers["git-protocol"] ?? "",
    PATH_INFO: `/${repository}${tail}`,
    QUERY_STRING: query,
    REQUEST_METHOD: req.method,
    CONTENT_TYPE: req.headers["content-type"] ?? "",
    HTTP_CONTENT_ENCODING: req.headers["content-encoding"] ?? "",
    REMOTE_ADDR: "127.0.0.1",
    // Only who is known may push.
    REMOTE_USER: "peer",
  };
  if (req.headers["content-length"]) env.CONTENT_LENGTH = req.headers["content-length"];
  const backend = spawn("git", ["http-backend"], { env, stdio: ["pipe", "pipe", "inherit"] });
  backend.on("error", (error) => res.destroy(error));
  backend.stdin.on("error", () => {});
  req.pipe(backend.stdin);

  let head = Buffer.alloc(0);
  const whenHeadEnds = (chunk) => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    const fields = head.subarray(0, end).toString("latin1").split("\r\n").map((line) => line.split(/: */, 2));
    const status = fields.find(([name]) => name === "Status")?.[1] ?? "200";
    res.writeHead(parseInt(status, 10), { ...Object.fromEntries(fields.filter(([name]) => name !== "Status")), ...headers });
    res.write(head.subarray(end + 4));
    backend.stdout.off("data", whenHeadEnds);
    backend.stdout.pipe(res);
  };
  backend.stdout.on("data", whenHeadEnds);
  backend.on("close", () => res.headersSent || res.writeHead(500).end());
}
