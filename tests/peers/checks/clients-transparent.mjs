// The clients in transparent mode, in a namespace like a pod with interception: the shop's name leads them to an address where
// nobody listens, and what they send there is redirected to the proxy. Started by clients.mjs.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { makeBody } from "../clients/body.mjs";
import { agentHome, trustEnv } from "../clients/clients.mjs";
import { SHOP_NAME } from "../rig/ca.mjs";
import { withHosts } from "../rig/hosts.mjs";
import { prepare, redirect } from "../rig/namespace.mjs";
import { startRig } from "../rig/rig.mjs";
import { shops, startTollpass } from "../rig/tollpass.mjs";
import { inside } from "./apart.mjs";
import { books } from "./books.mjs";
import { clientTable, REDIRECTED } from "./clients-table.mjs";

// A documentation address, where nobody listens.
const OUTSIDE = "203.0.113.20";

await inside("clients", async ({ bin, only, why }, report, kept) => {
  // First of all: without this nothing in a new namespace reaches anything.
  const reason = why ?? prepare();
  if (reason) return report.skip("clients in transparent mode", reason);
  const rig = (kept.rig = await startRig({ only: ["shop", "grpc"] }));
  const dir = path.join(rig.dir, "proxy");
  await mkdir(dir);
  await writeFile(path.join(dir, "seller-ca.pem"), await readFile(rig.tls.ca));
  const proxy = await startTollpass(bin, rig, undefined, { dir, listen: { transparent: "127.0.0.1:0" } });
  try {
    if (!proxy.transparent) throw new Error("the program does not listen for redirected connections");
    redirect(shops(rig).ports, new URL(`tcp://${proxy.transparent}`).port);
    const env = { ...trustEnv(proxy), ...(await agentHome(rig.dir, { ...proxy, proxy: undefined })) };
    const before = await withHosts(path.join(rig.dir, "agent-hosts"), `${OUTSIDE} ${SHOP_NAME}`);
    const made = await clientTable({ rig, proxy, report, mode: REDIRECTED, env, before, body: await makeBody(rig.dir) }, only);
    await books({ rig, proxy, report });
    return made;
  } finally {
    await proxy.stop();
    kept.log = proxy.proc.stderr;
  }
});
