// The client conformance tables: every client through the explicit proxy, and every client without any proxy variable in a
// network namespace where connections are redirected.
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { agentEnv, agentHome } from "../clients/clients.mjs";
import { HOME } from "../rig/rig.mjs";
import { apart } from "./apart.mjs";
import { clientTable } from "./clients-table.mjs";

const EXPLICIT = "Clients through the explicit proxy";
const TRANSPARENT = "Clients in transparent mode, without any proxy variable";

const line = (cells) => `| ${cells.join(" | ")} |`;
const markdown = (title, { rows, notes }) =>
  [`${title}:`, "", line(rows[0]), line(rows[0].map(() => "---")), ...rows.slice(1).map(line), "", notes].join("\n");

export async function clients(context, only) {
  const { proxy, report, rig, bin } = context;
  const tables = [];
  if (proxy.named) {
    const env = { ...agentEnv(proxy), ...(await agentHome(rig.dir, proxy)) };
    tables.push([EXPLICIT, await clientTable({ ...context, title: EXPLICIT, env }, only)]);
  } else {
    report.skip("clients", "no mount namespace can be made here, so no name that only the proxy knows");
  }
  const redirected = await apart("checks/clients-transparent.mjs", { bin, only, title: TRANSPARENT }, report);
  if (redirected) tables.push([TRANSPARENT, redirected]);
  // Where README's tables come from.
  await mkdir(path.join(HOME, "out"), { recursive: true });
  await writeFile(path.join(HOME, "out", "clients.md"), `${tables.map(([title, made]) => markdown(title, made)).join("\n\n")}\n`);
}
