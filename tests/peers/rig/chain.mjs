// The ground truth: an anvil chain with our token at the address of Base Sepolia's USDC.
import { createRequire } from "node:module";
import path from "node:path";
import { createPublicClient, createWalletClient, defineChain, http, parseAbiItem } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { start } from "./process.mjs";
import { compileToken } from "./token.mjs";

export const CHAIN_ID = 84532;
export const NETWORK = `eip155:${CHAIN_ID}`;
export const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const DOMAIN_SEPARATOR = "0x71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818";

// anvil's own published accounts: worth nothing anywhere else.
const account = (addressIndex) =>
  mnemonicToAccount("test test test test test test test test test test test junk", { addressIndex });
const hex = (key) => `0x${Buffer.from(key).toString("hex")}`;
export const PAYER = account(0);
export const PAYER_KEY = hex(PAYER.getHdKey().privateKey);
export const SETTLER = account(1);

const TRANSFER = parseAbiItem("event Transfer(address indexed from, address indexed to, uint256 value)");

function anvilBinary() {
  const cpu = { x64: "amd64", arm64: "arm64" }[process.arch];
  const home = createRequire(import.meta.url).resolve(`@foundry-rs/anvil-${process.platform}-${cpu}/package.json`);
  return path.join(path.dirname(home), "bin", "anvil");
}

export async function startChain() {
  const anvil = start(anvilBinary(), ["--chain-id", `${CHAIN_ID}`, "--host", "127.0.0.1", "--port", "0"], { name: "anvil" });
  const url = await anvil.line((line) => line.match(/^Listening on (\S+)/)?.[1]).then((at) => `http://${at}`);
  const chain = defineChain({
    id: CHAIN_ID,
    name: "anvil",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [url] } },
  });
  const transport = http(url, { retryCount: 0 });
  const reader = createPublicClient({ chain, transport, pollingInterval: 20, cacheTime: 0 });
  const writer = createWalletClient({ chain, transport, account: SETTLER });

  const { abi, runtime } = await compileToken();
  await reader.request({ method: "anvil_setCode", params: [USDC, runtime] });
  const separator = await reader.readContract({ address: USDC, abi, functionName: "DOMAIN_SEPARATOR" });
  if (separator !== DOMAIN_SEPARATOR) throw new Error(`token domain separator is ${separator}, not that of Base Sepolia USDC`);

  const self = { url, abi, reader, writer, chain, stop: () => anvil.stop() };

  /** waitForTransactionReceipt can hang on a chain that mines only on demand: ask until it is there. */
  self.receipt = async (hash, timeout = 30_000) => {
    const deadline = Date.now() + timeout;
    for (;;) {
      const receipt = await reader.getTransactionReceipt({ hash }).catch(() => null);
      if (receipt) return receipt;
      if (Date.now() > deadline) throw new Error(`no receipt for ${hash} after ${timeout} ms`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };

  self.mint = async (to, value) => {
    const hash = await writer.writeContract({ address: USDC, abi, functionName: "mint", args: [to, value] });
    const { status } = await self.receipt(hash);
    if (status !== "success") throw new Error("mint failed");
  };

  const transfers = (args) => reader.getLogs({ address: USDC, event: TRANSFER, args, fromBlock: 0n, toBlock: "latest" });
  const tally = (logs) => ({ count: logs.length, value: logs.reduce((sum, log) => sum + log.args.value, 0n) });

  /** What the chain says this address was paid: number of transfers and their sum in atomic units. */
  self.transfersTo = async (to) => tally(await transfers({ to }));
  /** What the chain says this address has paid. */
  self.transfersFrom = async (from) => tally(await transfers({ from }));

  await self.mint(PAYER.address, 1_000_000n * 10n ** 6n);
  return self;
}
