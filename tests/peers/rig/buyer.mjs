// The reference buyer: @x402/fetch with both versions registered. Buys what BUYER_WANTS lists, one after the other.
import { readFile } from "node:fs/promises";
import { registerExactEvmScheme } from "@x402/evm/exact/client";
import { wrapFetchWithPayment, x402Client } from "@x402/fetch";
import { privateKeyToAccount } from "viem/accounts";

const client = registerExactEvmScheme(new x402Client(), { signer: privateKeyToAccount(process.env.BUYER_KEY) });
const pay = wrapFetchWithPayment(fetch, client);
const body = await readFile(process.env.BUYER_BODY);

const results = [];
for (const { url, method } of JSON.parse(process.env.BUYER_WANTS)) {
  try {
    const response = await pay(url, method === "POST" ? { method, body } : { method });
    const text = await response.text();
    results.push({ status: response.status, body: response.status === 200 ? JSON.parse(text) : text.slice(0, 500) });
  } catch (error) {
    results.push({ status: 0, error: `${error.message} ${error.cause ?? ""}` });
  }
}
console.log(JSON.stringify({ results }));
