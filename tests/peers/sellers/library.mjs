// The Express app of a seller on @x402/express (x402 v2). Unmodified library; the payee follows the path.
import express from "express";
import { HTTPFacilitatorClient } from "@x402/core/server";
import { ExactEvmScheme } from "@x402/evm/exact/server";
import { paymentMiddleware, x402ResourceServer } from "@x402/express";
import { cellOf, echo, NETWORK, payeeOf, PRICE } from "./common.mjs";

export function librarySeller() {
  const facilitator = new HTTPFacilitatorClient({ url: process.env.FACILITATOR_URL });
  const server = new x402ResourceServer(facilitator).register(NETWORK, new ExactEvmScheme());
  const route = {
    accepts: {
      scheme: "exact",
      network: NETWORK,
      price: PRICE,
      payTo: (context) => payeeOf(cellOf(context.path)),
      maxTimeoutSeconds: 300,
    },
    description: "peer test",
    mimeType: "application/json",
  };
  const app = express();
  app.use(paymentMiddleware({ "GET /buy/*": route, "POST /buy/*": route }, server));
  app.get("/buy/:cell", echo);
  app.post("/buy/:cell", echo);
  return app;
}
