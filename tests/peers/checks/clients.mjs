// The client conformance tables: every client through the explicit proxy, and every client without any proxy variable in a
// network namespace where connections are redirected.
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { agentEnv, agentHome, CLIENTS } from "../clients/clients.mjs";
import { HOME } from "../rig/rig.mjs";
import { apart } from "./apart.mjs";
import { clientTable, COLUMNS, DEAF, EXPLICIT, NO_STREAM, REDIRECTED, SCHEMES } from "./clients-table.mjs";

const NAMES = { [EXPLICIT]: "proxy", [REDIRECTED]: "redirected" };

/** The three cells of one scheme in words: all, or what works, and what does not in bold. */
function summary(cells) {
  if (cells.every((cell) => cell === "ok")) return "all";
  const words = Object.keys(COLUMNS).map((column, i) => ({ ok: column, "n/a": "", FAIL: `**${column} fails**` })[cells[i]] ?? cells[i]);
  return [...new Set(words)].filter(Boolean).join(", ") || "n/a";
}

/** Both tables in one, as README has it: a line for each client, a column for each way and scheme. */
function markdown(made) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const ways = Object.keys(made);
  const header = ["client", "trusts by", ...ways.flatMap((way) => SCHEMES.map((scheme) => `${NAMES[way]}, ${scheme}`))];
  const width = Object.keys(COLUMNS).length;
  const [, ...clients] = made[ways[0]];
  const lines = clients.map(([label, version], i) => {
    const { ca } = Object.values(CLIENTS).find((client) => client.label === label);
    const cells = ways.flatMap((way) => SCHEMES.map((_, s) => summary(made[way][i + 1].slice(2 + s * width, 2 + (s + 1) * width))));
    return line([`${label} ${version}`.trim(), ca.includes(" ") ? ca : `\`${ca}\``, ...cells]);
  });
  return [line(header), line(header.map(() => "---")), ...lines, "", `n/a: ${DEAF}; ${NO_STREAM}.`, ""].join("\n");
}

export async function clients(context, only) {
  const { proxy, report, rig, bin } = context;
  const made = {};
  if (proxy.named) {
    const env = { ...agentEnv(proxy), ...(await agentHome(rig.dir, proxy)) };
    made[EXPLICIT] = await clientTable({ ...context, mode: EXPLICIT, env }, only);
  } else {
    report.skip("clients", "no mount namespace can be made here, so no name that only the proxy knows");
  }
  const redirected = await apart("checks/clients-transparent.mjs", { bin, only }, report);
  if (redirected) made[REDIRECTED] = redirected;
  if (Object.keys(made).length === 0) return;
  // Where README's table comes from.
  await mkdir(path.join(HOME, "out"), { recursive: true });
  await writeFile(path.join(HOME, "out", "clients.md"), markdown(made));
}
