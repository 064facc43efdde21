// Compiles the test token. Takes a second or two, so it is done once per rig start and never cached on disk:
// a stale artefact would make the chain lie.
import { readFile } from "node:fs/promises";
import solc from "solc";

const NAME = "Eip3009Token";

export async function compileToken() {
  const source = await readFile(new URL(`../token/${NAME}.sol`, import.meta.url), "utf8");
  const input = {
    language: "Solidity",
    sources: { [`${NAME}.sol`]: { content: source } },
    settings: {
      optimizer: { enabled: true, runs: 200 },
      evmVersion: "cancun",
      outputSelection: { "*": { "*": ["abi", "evm.deployedBytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter((e) => e.severity === "error");
  if (errors.length) throw new Error(errors.map((e) => e.formattedMessage).join("\n"));
  const contract = output.contracts[`${NAME}.sol`][NAME];
  return { abi: contract.abi, runtime: `0x${contract.evm.deployedBytecode.object}` };
}
