// The wget command, once per job: the proxy and the CA come from the environment alone.
import { commandLine } from "./command.mjs";
import { jobs } from "./jobs.mjs";

await jobs(async function* (method, url, body, kind, file) {
  const upload = body ? [`--post-file=${file}`, "--header=content-type: application/octet-stream"] : [];
  yield* commandLine("wget", ["-nv", "-O", "-", "--tries=1", "--timeout=30", ...upload, url]);
  // It succeeds with nothing else.
  return 200;
});
