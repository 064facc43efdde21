// The curl command, once per job: the proxy and the CA come from the environment alone.
import { commandLine } from "./command.mjs";
import { jobs } from "./jobs.mjs";

await jobs(async function* (method, url, body, kind, file) {
  const upload = body ? ["--data-binary", `@${file}`, "-H", "content-type: application/octet-stream"] : [];
  const told = yield* commandLine("curl", ["-sS", "-N", "--max-time", "30", "-w", "%{stderr}%{http_code}", ...upload, url]);
  return Number(told);
});
