// Seller on @x402/express (x402 v2).
import { serve } from "./common.mjs";
import { librarySeller } from "./library.mjs";

await serve(librarySeller());
