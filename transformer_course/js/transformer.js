// A GPT of chapter 7 in plain JavaScript: its forward pass, one token at a time, with the keys and values of the tokens before.
// A model is {config, characters, parameters}. Parameters have the names that they have in PyTorch; a matrix is (out, in), row by
// row. Numbers are kept with 32 bits and added up with 64.

/** GELU with the hyperbolic tangent, as in GPT-2: x (1 + bend(x)) / 2. */
export const gelu = (x) => x * (1 + bend(x)) / 2;
export const SLOPE = Math.sqrt(2 / Math.PI);
export const bend = (x) => Math.tanh(SLOPE * (x + 0.044715 * x * x * x));

/** A function that gives the parameters of one layer by their short names. */
export const layerOf = ({ parameters }, layer) => (name) => parameters[`layers.${layer}.${name}`];
export const READS = "attention.sublayer.heads", FEEDS = "feed_forward.sublayer";

/** The model in a file, with 32-bit numbers: each row of a matrix is whole numbers times a scale. */
export function unpack({ config, characters, shapes, int8, float32 }) {
  const whole = new Int8Array(bytes(int8)), floats = new Float32Array(bytes(float32)), parameters = {};
  let w = 0, f = 0;
  for (const [name, [rows, columns]] of Object.entries(shapes)) {
    const vector = floats.slice(f, f += rows);
    parameters[name] = columns ? new Float32Array(rows * columns).map((_, i) => whole[w++] * vector[Math.floor(i / columns)]) : vector;
  }
  return { config, characters, parameters };
}
function bytes(text) {
  const letters = atob(text), out = new Uint8Array(letters.length);
  for (let i = 0; i < out.length; i++) out[i] = letters.charCodeAt(i);
  return out.buffer;
}

/** A cache that has read nothing: room for a key and a value of every token in every layer. It counts operations. */
export function emptyCache({ config: { n_layers, max_len, d_model } }) {
  const room = () => Array.from({ length: n_layers }, () => new Float32Array(max_len * d_model));
  return { length: 0, keys: room(), values: room(), operations: 0 };
}

/** The product of `n` numbers of `a` from place `i` on with those of `b` from `j` on; four sums, which needn't wait for each other. */
export function dot(a, i, b, j, n) {
  let w = 0, x = 0, y = 0, z = 0;
  const end = i + n, fours = end - 3;
  for (; i < fours; i += 4, j += 4) {
    w += a[i] * b[j];
    x += a[i + 1] * b[j + 1];
    y += a[i + 2] * b[j + 2];
    z += a[i + 3] * b[j + 3];
  }
  for (; i < end; i++, j++) w += a[i] * b[j];
  return w + x + y + z;
}

/** W x + b. Each product with its sum is counted as two operations. */
function apply(cache, matrix, bias, x) {
  const width = x.length, out = new Float32Array(matrix.length / width);
  for (let i = 0; i < out.length; i++) out[i] = dot(matrix, i * width, x, 0, width) + (bias ? bias[i] : 0);
  cache.operations += 2 * matrix.length;
  return out;
}

/** Mean 0 and variance 1, then a weight and a bias: chapter 6's LayerNorm. */
function normed(x, weight, bias, eps) {
  let mean = 0, variance = 0;
  for (const one of x) mean += one / x.length;
  for (const one of x) variance += (one - mean) ** 2 / x.length;
  return x.map((one, i) => (one - mean) / Math.sqrt(variance + eps) * weight[i] + bias[i]);
}

const add = (x, y) => x.map((one, i) => one + y[i]);
const row = (table, i, width) => table.subarray(i * width, (i + 1) * width);

/** Attention weights of one head: the query at `t` with the keys of all tokens up to it. */
function headWeights(cache, query, keys, t, from, width, step) {
  const weights = new Float32Array(t + 1);
  let most = -Infinity, whole = 0;
  for (let s = 0; s <= t; s++) {
    weights[s] = dot(query, from, keys, s * step + from, width) / Math.sqrt(width);
    most = Math.max(most, weights[s]);
  }
  for (let s = 0; s <= t; s++) whole += weights[s] = Math.exp(weights[s] - most);
  cache.operations += 4 * (t + 1) * width;            // the scores, and the average of the values
  return weights.map((one) => one / whole);
}

/**
 * Read one more token. Returns its `logits`, `weights[layer][head]` over the tokens up to it, and `stream`: the residual stream
 * after the embedding and after every layer. The cache grows by the token's keys and values.
 */
export function read(model, cache, token) {
  const { config: { d_model, n_layers, n_heads, max_len, norm_eps }, parameters } = model, t = cache.length, width = d_model / n_heads;
  if (t >= max_len) throw new RangeError(`${t + 1} tokens are more than max_len=${max_len}`);
  let x = add(row(parameters["token_embedding.weight"], token, d_model), row(parameters["position_embedding.table.weight"], t, d_model));
  const stream = [x], weights = [];
  for (let layer = 0; layer < n_layers; layer++) {
    const at = layerOf(model, layer), keys = cache.keys[layer], values = cache.values[layer];
    const map = (part, y) => apply(cache, at(`${part}.weight`), at(`${part}.bias`), y);
    const before = normed(x, at("attention.norm.weight"), at("attention.norm.bias"), norm_eps);
    const query = map(`${READS}.query`, before), found = new Float32Array(d_model);
    keys.set(map(`${READS}.key`, before), t * d_model);
    values.set(map(`${READS}.value`, before), t * d_model);
    weights.push(Array.from({ length: n_heads }, (_, h) => {
      const from = h * width, own = headWeights(cache, query, keys, t, from, width, d_model);
      for (let s = 0; s <= t; s++) for (let i = from; i < from + width; i++) found[i] += own[s] * values[s * d_model + i];
      return own;
    }));
    x = add(x, map(`${READS}.output`, found));
    const hidden = map(`${FEEDS}.up`, normed(x, at("feed_forward.norm.weight"), at("feed_forward.norm.bias"), norm_eps)).map(gelu);
    x = add(x, map(`${FEEDS}.down`, hidden));
    stream.push(x);
  }
  cache.length += 1;
  return { logits: predict(model, x, cache), weights, stream };
}

/** The logits of a vector of the residual stream: the last norm and the output map. Of an earlier layer's vector: the logit lens. */
export function predict({ config, parameters }, x, cache = { operations: 0 }) {
  return apply(cache, parameters["token_embedding.weight"], null, normed(x, parameters["norm.weight"], parameters["norm.bias"], config.norm_eps));
}

/** What the model says of a whole text, token by token with an empty cache: what `read` returns, for each of them. */
export function readAll(model, tokens, cache = emptyCache(model)) {
  return tokens.map((token) => read(model, cache, token));
}

/** Operations for the token at position `t`, when the keys and values before it are kept. */
export function operationsAt({ config: { d_model, n_layers, d_ff }, characters }, t) {
  return 2 * d_model * (n_layers * (4 * d_model + 2 * d_ff + 2 * (t + 1)) + characters.length);
}

/** Where the window of a text begins: when it is full, it goes on with its second half. */
export const windowStart = (length, max_len) => Math.max(0, Math.ceil((length - max_len) / (max_len / 2))) * (max_len / 2);

/** The places of logits, largest first, and their probabilities at a temperature, of those that top-k, then top-p keep. */
export function shares(logits, { temperature = 1, topK = 0, topP = 1 }) {
  const places = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
  const raw = places.map((place, n) => (temperature ? Math.exp((logits[place] - logits[places[0]]) / temperature) : +(n === 0)));
  const likely = topK ? raw.slice(0, topK) : raw, all = likely.reduce((a, b) => a + b, 0);
  let before = 0;                                     // the probability of the tokens in front
  const kept = likely.filter((one) => { const keep = before < topP || !before; before += one / all; return keep; });
  const whole = kept.reduce((a, b) => a + b, 0);
  return { places, shares: raw.map((one, n) => (n < kept.length ? one / whole : 0)) };
}

/** The token on which a random number from 0 to 1 falls, when the shares lie one after the other. */
export function draw({ places, shares: parts }, number) {
  let sum = 0;
  const found = parts.findIndex((part) => (sum += part) > number);
  return places[found < 0 ? parts.findLastIndex((part) => part > 0) : found];
}
