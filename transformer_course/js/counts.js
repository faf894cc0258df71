// What `transformer_course.scaling` counts, in the same words. `c` are the sizes and parts of a decoder; a machine is [operations per
// second, bytes per second, bytes of memory]; `size` are the bytes of a number. A text is as long as the context.

import { total } from "./lib.js";

const linear = (n, m, bias) => n * m + (bias ? m : 0);
export const attention = (c) => 2 * linear(c.width, c.width, c.bias) + 2 * linear(c.width, (c.width / c.heads) * c.key_heads, c.bias);
export function feedForward(c, experts = c.experts) {
  const one = (c.activation === "swiglu" ? 2 : 1) * linear(c.width, c.hidden, c.bias) + linear(c.hidden, c.width, c.bias);
  return c.experts === 1 ? one : experts * one + c.width * c.experts;
}
export const parameters = (c) => ({ embedding: c.vocabulary * c.width, positions: c.positions === "learned" ? c.context * c.width : 0,
  attention: c.layers * attention(c), "feed-forward": c.layers * feedForward(c),
  norms: (2 * c.layers + (c.norm_first ? 1 : 0)) * c.width * (c.norm === "layer" && c.bias ? 2 : 1), head: c.tied ? 0 : c.vocabulary * c.width });
export const allParameters = (c) => total(Object.values(parameters(c)));
export const activeParameters = (c) => allParameters(c) - c.layers * (feedForward(c) - feedForward(c, c.active));
export const multiplied = (c, experts = c.active) => { const plain = { ...c, bias: false }; return c.layers * (attention(plain) + feedForward(plain, experts)) + c.vocabulary * c.width; };
const keys = (c) => (c.window ? Math.min(c.context, c.window) : c.context);
/** Of one token: of all its queries with all their keys, and of all matrix products with them. */
export const attentionFlops = (c) => 4 * c.width * keys(c) * c.layers;
export const flopsPerToken = (c, training = false) => (2 * multiplied(c) + attentionFlops(c)) * (training ? 3 : 1);
export const cacheBytes = (c, batch, size) => 2 * c.layers * c.key_heads * (c.width / c.heads) * keys(c) * batch * size;
export function trainingMemory(c, batch, checkpointed) {
  const norm = c.norm === "rms" ? 2 * c.width + 1 : c.width + 2, all = allParameters(c);
  const attends = 5 * c.width + c.heads + (c.positions === "rope" ? c.width : 0), hidden = c.width + ({ relu: 1, swiglu: 4 }[c.activation] ?? 2) * c.hidden * c.active;
  const block = 2 * norm + attends + hidden, head = (c.norm_first ? norm : 0) + c.width + c.vocabulary;
  const kept = checkpointed ? c.layers * c.width + Math.max(block, head) : c.layers * block + head;
  return { weights: 4 * all, gradients: 4 * all, optimiser: 8 * all, activations: 4 * kept * batch * c.context };
}
/** Bytes of the weights that a step of so many tokens reads: of a mixture, those of the experts that any token uses, chosen at random. */
export function weightsRead(c, tokens, size) {
  const idle = (1 - c.active / c.experts) ** tokens, experts = feedForward({ ...c, bias: false }) - (c.experts > 1 ? c.width * c.experts : 0);
  return (multiplied(c, c.experts) - idle * c.layers * experts) * size;
}
/** Of one machine: how long a step reads and how long it computes, the bytes that it needs, and its tokens per second, 0 where they do not fit. */
export function generating(c, [operations, bandwidth, memory], batch, size) {
  const caches = cacheBytes(c, batch, size), weights = allParameters(c) * size;
  const read = (weightsRead(c, batch, size) + caches) / bandwidth, compute = (batch * flopsPerToken(c)) / operations;
  return { weights, caches, read, compute, speed: weights + caches > memory ? 0 : batch / Math.max(read, compute) };
}
export const trainingSeconds = (c, tokens, [operations], chips, utilisation) => (tokens * flopsPerToken(c, true)) / (chips * operations * utilisation);
/** The most operations per second at so many operations per byte. */
export const reachable = ([operations, bandwidth], intensity) => Math.min(operations, intensity * bandwidth);
