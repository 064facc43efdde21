// The real facilitator of @x402/core and @x402/evm behind the three routes that sellers call.
import { createServer } from "node:http";
import { x402Facilitator } from "@x402/core/facilitator";
import { toFacilitatorEvmSigner } from "@x402/evm";
import { registerExactEvmScheme } from "@x402/evm/exact/facilitator";
import { NETWORK, SETTLER } from "./chain.mjs";

function signer(chain) {
  const { reader, writer } = chain;
  return toFacilitatorEvmSigner({
    address: SETTLER.address,
    readContract: (args) => reader.readContract(args),
    verifyTypedData: (args) => reader.verifyTypedData(args),
    writeContract: (args) => writer.writeContract(args),
    sendTransaction: (args) => writer.sendTransaction(args),
    waitForTransactionReceipt: ({ hash, timeout }) => chain.receipt(hash, timeout),
    getCode: (args) => reader.getCode(args),
  });
}

/** One at a time: anvil hands the same account nonce to two transactions that are sent together. */
function queue() {
  let last = Promise.resolve();
  return (work) => (last = last.then(work, work));
}

async function body(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

export async function startFacilitator(chain) {
  const facilitator = registerExactEvmScheme(new x402Facilitator(), { signer: signer(chain), networks: NETWORK });
  const inTurn = queue();

  const routes = {
    "GET /supported": () => facilitator.getSupported(),
    "POST /verify": ({ paymentPayload, paymentRequirements }) => facilitator.verify(paymentPayload, paymentRequirements),
    "POST /settle": ({ paymentPayload, paymentRequirements }) =>
      inTurn(() => facilitator.settle(paymentPayload, paymentRequirements)),
  };

  const server = createServer(async (req, res) => {
    const answer = (status, value) => {
      res.writeHead(status, { "content-type": "application/json" });
      res.end(JSON.stringify(value));
    };
    const route = routes[`${req.method} ${req.url}`];
    if (!route) return answer(404, { error: "no such route" });
    try {
      answer(200, await route(req.method === "POST" ? await body(req) : undefined));
    } catch (error) {
      console.error("facilitator:", error);
      answer(500, { error: String(error.message ?? error) });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))),
  };
}
