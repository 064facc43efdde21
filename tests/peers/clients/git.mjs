// The git command: a page is a clone, a post is the push of a commit that holds the body. The proxy and the CA come from the
// environment alone.
import { copyFile, mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { commandLine } from "./command.mjs";
import { jobs } from "./jobs.mjs";

async function git(cwd, ...args) {
  for await (const _ of commandLine("git", args, { cwd })) continue;
}

await jobs(async function* (method, url, body, kind, file) {
  const dir = await mkdtemp(path.join(process.env.HOME ?? tmpdir(), "git-"));
  if (kind === "get") {
    await git(dir, "clone", "-q", url, "copy");
    yield await readFile(path.join(dir, "copy", "page"));
  } else {
    await git(dir, "init", "-q");
    await copyFile(file, path.join(dir, "body"));
    await git(dir, "add", "body");
    await git(dir, "-c", "user.name=peer", "-c", "user.email=peer@shop.test", "commit", "-q", "-m", "body");
    await git(dir, "push", "-q", url, "HEAD:refs/heads/pushed");
  }
  return 200;
});
