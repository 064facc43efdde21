// The payment table over the ways in, in a program of its own (ways-table.mjs): in its network namespace connections are redirected
// to the proxy.
import { apart } from "./apart.mjs";

export const ways = ({ bin, report }, only) => apart("checks/ways-table.mjs", { bin, only }, report);
