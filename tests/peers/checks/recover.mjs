// A machine is lost: the cold share and either of the others move everything to the address that was fixed when the wallet was
// made, and nowhere else (S7).
import { USDC } from "../rig/chain.mjs";
import { table } from "./report.mjs";

const balance = ({ reader, abi }, of) => reader.readContract({ address: USDC, abi, functionName: "balanceOf", args: [of] });
const dollars = (atomic) => `${atomic / 1_000_000n}.${(atomic % 1_000_000n).toString().padStart(6, "0")}`;

export async function recover({ rig, mpc, proxy, report }) {
  const { chain } = rig;
  await proxy.stop();
  await mpc.stop();
  const rows = [["shares", "", "before", "after", "at the recovery address"]];
  for (const other of ["sidecar", "cosigner"]) {
    if ((await balance(chain, mpc.address)) === 0n) await chain.mint(mpc.address, 1_234_567n);
    const [before, had] = [await balance(chain, mpc.address), await balance(chain, mpc.recovery)];
    const answers = await mpc.recover(other, dollars(before));
    const same = answers[0].calldata === answers[1].calldata;
    const hash = await chain.writer.sendTransaction({ to: USDC, data: answers[0].calldata }).catch(() => null);
    const mined = hash !== null && (await chain.receipt(hash)).status === "success";
    const [after, got] = [await balance(chain, mpc.address), (await balance(chain, mpc.recovery)) - had];
    const good = same && mined && before > 0n && after === 0n && got === before;
    const detail = `both printed the same: ${same}, mined: ${mined}, before ${before}, after ${after}, received ${got}`;
    rows.push([`cold + ${other}`, report.check(`recover with the ${other}'s share`, good, detail), before, after, got]);
  }
  report.title("Recovery: everything moved to the one address fixed at the ceremony (atomic units)");
  table(rows);
}
