// A seller on @x402/express whose facilitator answers at once: unmodified library, the facilitator is an object of this process.
// Prints its URL. Run with the modules of tests/peers (see run.py).
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const peers = createRequire(process.env.BENCH_MODULES);
const load = (name) => import(pathToFileURL(peers.resolve(name)).href);
const { default: express } = await load("express");
const { ExactEvmScheme } = await load("@x402/evm/exact/server");
const { paymentMiddleware, x402ResourceServer } = await load("@x402/express");

const NETWORK = "eip155:84532";
const payer = (payment) => payment.payload.authorization.from;
const facilitator = {
  getSupported: async () => ({ kinds: [{ x402Version: 2, scheme: "exact", network: NETWORK }], extensions: [], signers: {} }),
  verify: async (payment) => ({ isValid: true, payer: payer(payment) }),
  settle: async (payment) => ({ success: true, transaction: `0x${"0".repeat(63)}1`, network: NETWORK, payer: payer(payment) }),
};

const accepts = { scheme: "exact", network: NETWORK, price: "$0.01", payTo: process.env.BENCH_PAYEE, maxTimeoutSeconds: 300 };
const server = new x402ResourceServer(facilitator).register(NETWORK, new ExactEvmScheme());
const page = "x".repeat(1024);
const app = express();
app.use(paymentMiddleware({ "GET /buy/*": { accepts, description: "a page", mimeType: "text/plain" } }, server));
app.get("/buy/:page", (_, res) => res.type("text/plain").send(page));
const listening = app.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${listening.address().port}`));
