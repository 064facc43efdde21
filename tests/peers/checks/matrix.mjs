// Every seller x client x scheme x method: the client gets what it asked for, byte for byte, and the chain shows exactly
// one transfer of exactly the price to the payee of that cell.
import { agentEnv, request } from "../clients/clients.mjs";
import { payeeOf, PRICE_ATOMIC } from "../sellers/common.mjs";
import { table, usd } from "./report.mjs";

// A cell without any answer costs half a minute: after this many the rest would tell nothing new.
const PATIENCE = 6;
// The step `clients` has all of them; here they meet every seller.
const CLIENTS = ["curl", "requests", "httpx", "node22", "node24"];
const COLUMNS = [["http", "GET"], ["http", "POST"], ["https", "GET"], ["https", "POST"]];

function delivered(answer, method, body) {
  if (answer.status !== 200) return false;
  const echo = JSON.parse(answer.body);
  if (method === "GET") return echo.method === "GET" && echo.length === 0;
  return echo.method === "POST" && echo.length === body.length && echo.sha256 === body.sha256;
}

const cellOf = (...parts) => parts.join("-").toLowerCase();

/** The cells of the whole matrix: who verifies payees has to know them. */
export const matrixCells = (sellers) =>
  sellers.flatMap((seller) => CLIENTS.flatMap((client) => COLUMNS.map((column) => cellOf(seller, client, ...column))));

async function buy({ rig, env, body, report }, seller, client, scheme, method) {
  const cell = cellOf(seller, client, scheme, method);
  const answer = await request(client, env, `${rig.sellers[seller][scheme]}/buy/${cell}`, method, body.file);
  const paid = await rig.chain.transfersTo(payeeOf(cell));
  const good = delivered(answer, method, body) && paid.count === 1 && paid.value === PRICE_ATOMIC;
  const detail = `status ${answer.status}, chain ${paid.count} x (${usd(paid.value)}), ${answer.problem ?? answer.body.slice(0, 300)}`;
  return { ...paid, status: answer.status, mark: report.check(cell, good, detail) };
}

export async function matrix(context, { sellers, clients }) {
  const { rig, report, proxy } = context;
  const env = agentEnv(proxy);
  const chosen = (all, wanted) => all.filter((name) => !wanted || wanted.includes(name));
  let silent = 0;
  const rows = [["seller", "client", ...COLUMNS.map((c) => c.join(" ")), "paid on chain"]];
  for (const seller of chosen(Object.keys(rig.sellers), sellers)) {
    for (const client of chosen(CLIENTS, clients)) {
      const cells = [];
      for (const [scheme, method] of COLUMNS) cells.push(await buy({ ...context, env }, seller, client, scheme, method));
      const count = cells.reduce((sum, c) => sum + c.count, 0);
      const value = cells.reduce((sum, c) => sum + c.value, 0n);
      rows.push([seller, client, ...cells.map((c) => `${c.mark} ${c.status} x${c.count}`), `${count} = ${usd(value)}`]);
      console.error(rows.at(-1).join("  "));
      silent += cells.filter(({ status }) => status === 0).length;
      if (!proxy.alive()) throw new Error("tollpass ended in the middle of the matrix");
      if (silent >= PATIENCE) throw new Error(`${silent} cells got no answer at all: the rest of the matrix was not run`);
    }
  }
  report.title("Matrix: answer and number of transfers on the chain (POST is 10 MiB)");
  table(rows);
}
