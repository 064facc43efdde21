// The two halves of selling by hand, x402 v2 with the `exact` scheme: ask for the price, take the money.
// For sellers that need a fault or a stream at a known point, which the middleware libraries hide.
import { NETWORK, payeeOf, PRICE_ATOMIC } from "./common.mjs";

const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";

export const requirements = (cell) => ({
  scheme: "exact",
  network: NETWORK,
  amount: PRICE_ATOMIC.toString(),
  asset: USDC,
  payTo: payeeOf(cell),
  maxTimeoutSeconds: 300,
  extra: { name: "USDC", version: "2" },
});

export const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64");

/** The value of PAYMENT-REQUIRED for one resource. */
export const demand = (url, cell, error = "PAYMENT-SIGNATURE header is required") =>
  encode({ x402Version: 2, error, resource: { url }, accepts: [requirements(cell)] });

/** Has the facilitator settle what PAYMENT-SIGNATURE holds; its answer says whether it did. */
export async function settle(payment, cell) {
  const paymentPayload = JSON.parse(Buffer.from(payment, "base64").toString("utf8"));
  const response = await fetch(`${process.env.FACILITATOR_URL}/settle`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ x402Version: 2, paymentPayload, paymentRequirements: requirements(cell) }),
  });
  return response.json();
}
