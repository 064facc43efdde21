// Seller on x402-express 1.2 (x402 v1). This version takes one fixed payee, so each cell gets a middleware of its own.
import express from "express";
import { paymentMiddleware } from "x402-express";
import { cellOf, echo, payeeOf, PRICE, serve } from "./common.mjs";

const facilitator = { url: process.env.FACILITATOR_URL };
const route = { price: PRICE, network: "base-sepolia", config: { description: "peer test", maxTimeoutSeconds: 300 } };
const perCell = new Map();

const app = express();
app.use((req, res, next) => {
  const cell = cellOf(req.path) ?? "";
  if (!perCell.has(cell)) {
    perCell.set(cell, paymentMiddleware(payeeOf(cell), { "GET /buy/*": route, "POST /buy/*": route }, facilitator));
  }
  return perCell.get(cell)(req, res, next);
});
app.get("/buy/:cell", echo);
app.post("/buy/:cell", echo);
await serve(app);
