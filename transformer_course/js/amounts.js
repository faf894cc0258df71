// Large amounts as a reader can take them in: three digits and a unit.

import { count } from "./lib.js";

export const digits = (x) => Number(x.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 6 });
const unit = (x, units, last) => { const [name, size] = units.find(([, least]) => x >= least) ?? [last, 1]; return `${digits(x / size)} ${name}`.trim(); };
/** A power of ten with a true raised exponent: 3.15 × 10²³. */
export function power(x) {
  const [front, exponent] = x.toExponential(2).split("e"), raised = [...String(Number(exponent))].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("");
  return Number(front) === 1 ? `10${raised}` : `${Number(front)} × 10${raised}`;
}
/** 8,030,261,248 is 8.03 billion; what has more than a thousand trillions is a power of ten. */
export const amount = (x) => (x >= 1e15 ? power(x) : x < 1e6 ? count(Number(x.toPrecision(3))) : unit(x, [["trillion", 1e12], ["billion", 1e9], ["million", 1e6]], ""));
/** Units of the decimal system: 1 GB is 10⁹ bytes. */
export const memoryText = (bytes) => unit(bytes, [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]], "bytes");
export const duration = (seconds) => unit(seconds, [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1], ["ms", 1e-3], ["µs", 1e-6]], "seconds");
/** Of rising numbers the one that is nearest; the first where nothing is near. */
export const nearest = (stops, x) => stops.reduce((best, one) => (Math.abs(one - x) < Math.abs(best - x) ? one : best));
