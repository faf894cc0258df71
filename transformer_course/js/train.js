// Training in plain JavaScript: the loss of a sequence, its gradients by the chain rule, and AdamW. Parameters and models are those
// of transformer.js; a matrix of activations is (T, width), row by row. Tests compare gradients and steps with PyTorch's.

import { FEEDS, READS, SLOPE, bend, dot, gelu, layerOf } from "./transformer.js";

/** Numbers that look random and are the same each time: a function that gives one from 0 to 1. */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The shape of every parameter of a GPT with one table for the tokens that go in and those that come out. */
export function shapes({ d_model: d, n_layers, d_ff: f, max_len }, vocabulary) {
  const linear = (name, rows, columns) => ({ [`${name}.weight`]: [rows, columns], [`${name}.bias`]: [rows] });
  const norm = (name) => ({ [`${name}.weight`]: [d], [`${name}.bias`]: [d] });
  const layer = (at) => ({ ...norm(`${at}.attention.norm`), ...["query", "key", "value", "output"].reduce((all, part) => ({ ...all, ...linear(`${at}.${READS}.${part}`, d, d) }), {}),
    ...norm(`${at}.feed_forward.norm`), ...linear(`${at}.${FEEDS}.up`, f, d), ...linear(`${at}.${FEEDS}.down`, d, f) });
  return Array.from({ length: n_layers }, (_, i) => layer(`layers.${i}`)).reduce((all, one) => ({ ...all, ...one }),
    { "token_embedding.weight": [vocabulary, d], "position_embedding.table.weight": [max_len, d], ...norm("norm") });
}

/** Vectors of zeros like the parameters: gradients before the first sequence. */
export const zeros = (parameters) => Object.fromEntries(Object.entries(parameters).map(([name, one]) => [name, new Float32Array(one.length)]));

/** A model that has learnt nothing: chapter 7's `initialize`, with more than GPT-2's spread of 0.02, which is for 768 numbers a token. */
export function newModel(config, characters, random) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const usual = 0.02 * Math.sqrt(768 / config.d_model), shrunk = usual / Math.sqrt(2 * config.n_layers), parameters = {};
  for (const [name, [rows, columns]] of Object.entries(shapes(config, characters.length))) {
    const spread = /\.(output|down)\.weight$/.test(name) ? shrunk : usual;
    parameters[name] = new Float32Array(rows * (columns ?? 1)).map(() => (columns ? normal() * spread : +/norm\.weight$/.test(name)));
  }
  return { config, characters, parameters };
}

// --- layers, each with the way back: from the gradient of what it gives to the gradients of what it took ---------------------------

/** X Wᵀ + b, (T, in) to (T, out). */
function linear(x, matrix, bias, T) {
  const width = x.length / T, wide = matrix.length / width, out = new Float32Array(T * wide);
  for (let t = 0, o = 0; t < T; t++)
    for (let i = 0; i < wide; i++, o++) out[o] = dot(matrix, i * width, x, t * width, width) + (bias ? bias[i] : 0);
  return out;
}
function linearBack(given, x, matrix, T, matrixGradient, biasGradient) {
  const width = x.length / T, wide = matrix.length / width, back = new Float32Array(x.length);
  for (let t = 0, o = 0; t < T; t++)
    for (let i = 0, at = 0; i < wide; i++, o++) {
      const g = given[o];
      if (biasGradient) biasGradient[i] += g;
      for (let j = 0, from = t * width; j < width; j++, at++, from++) {
        matrixGradient[at] += g * x[from];
        back[from] += g * matrix[at];
      }
    }
  return back;
}

/** Each row with mean 0 and variance 1 (`flat`, and `size`, what it was divided by), then a weight and a bias. */
function norm(x, weight, bias, eps, T) {
  const width = weight.length, flat = new Float32Array(x.length), size = new Float32Array(T);
  for (let t = 0; t < T; t++) {
    const row = x.subarray(t * width, (t + 1) * width);
    let mean = 0, variance = 0;
    for (const one of row) mean += one / width;
    for (const one of row) variance += (one - mean) ** 2 / width;
    size[t] = Math.sqrt(variance + eps);
    row.forEach((one, i) => { flat[t * width + i] = (one - mean) / size[t]; });
  }
  return { out: flat.map((one, i) => one * weight[i % width] + bias[i % width]), flat, size };
}
function normBack(given, { flat, size }, weight, T, weightGradient, biasGradient) {
  const width = weight.length, back = new Float32Array(given.length);
  for (let t = 0; t < T; t++) {
    let mean = 0, along = 0;                          // of the gradient at `flat`: its mean, and its mean times `flat`
    for (let i = 0, at = t * width; i < width; i++, at++) {
      weightGradient[i] += given[at] * flat[at];
      biasGradient[i] += given[at];
      mean += given[at] * weight[i] / width;
      along += given[at] * weight[i] * flat[at] / width;
    }
    for (let i = 0, at = t * width; i < width; i++, at++) back[at] = (given[at] * weight[i] - mean - flat[at] * along) / size[t];
  }
  return back;
}

/** The derivative of `gelu`. */
function geluSlope(x) {
  const bent = bend(x);
  return (1 + bent + x * (1 - bent * bent) * SLOPE * (1 + 3 * 0.044715 * x * x)) / 2;
}

/** Causal attention of all heads: `found` (T, d), and the weights of each head, (T, T). */
function attend(q, k, v, heads, T) {
  const d = q.length / T, width = d / heads, found = new Float32Array(T * d);
  const weights = Array.from({ length: heads }, (_, h) => {
    const own = new Float32Array(T * T);
    for (let t = 0; t < T; t++) {
      let whole = 0, most = -Infinity;
      for (let s = 0; s <= t; s++) {
        own[t * T + s] = dot(q, t * d + h * width, k, s * d + h * width, width) / Math.sqrt(width);
        most = Math.max(most, own[t * T + s]);
      }
      for (let s = 0; s <= t; s++) whole += own[t * T + s] = Math.exp(own[t * T + s] - most);
      for (let s = 0; s <= t; s++) {
        own[t * T + s] /= whole;
        for (let i = h * width; i < (h + 1) * width; i++) found[t * d + i] += own[t * T + s] * v[s * d + i];
      }
    }
    return own;
  });
  return { found, weights };
}
function attendBack(given, q, k, v, weights, T) {
  const d = q.length / T, width = d / weights.length, [toQ, toK, toV] = [q, k, v].map((one) => new Float32Array(one.length));
  weights.forEach((own, h) => {
    const slope = new Float32Array(T);                // the gradients of one row of weights
    for (let t = 0; t < T; t++) {
      let mean = 0;
      for (let s = 0; s <= t; s++) {
        slope[s] = 0;
        for (let i = h * width; i < (h + 1) * width; i++) {
          slope[s] += given[t * d + i] * v[s * d + i];
          toV[s * d + i] += own[t * T + s] * given[t * d + i];
        }
        mean += own[t * T + s] * slope[s];
      }
      for (let s = 0; s <= t; s++) {
        const score = own[t * T + s] * (slope[s] - mean) / Math.sqrt(width);
        for (let i = h * width; i < (h + 1) * width; i++) {
          toQ[t * d + i] += score * k[s * d + i];
          toK[s * d + i] += score * q[t * d + i];
        }
      }
    }
  });
  return [toQ, toK, toV];
}

const addTo = (x, y) => { for (let i = 0; i < x.length; i++) x[i] += y[i]; return x; };

/**
 * The mean loss of predicting each token of a sequence from those before it. Its gradients times `share` are added to `gradients`:
 * `share` is 1 / B for one of B sequences.
 */
export function lossAndGradients(model, tokens, gradients, share = 1) {
  const { config: { d_model: d, n_layers, n_heads, norm_eps }, parameters } = model, T = tokens.length - 1;
  const table = parameters["token_embedding.weight"], places = parameters["position_embedding.table.weight"], kept = [];
  let x = new Float32Array(T * d).map((_, i) => table[tokens[Math.floor(i / d)] * d + i % d] + places[i]);
  for (let layer = 0; layer < n_layers; layer++) {
    const at = layerOf(model, layer), map = (part, y) => linear(y, at(`${part}.weight`), at(`${part}.bias`), T);
    const one = { first: norm(x, at("attention.norm.weight"), at("attention.norm.bias"), norm_eps, T) };
    [one.q, one.k, one.v] = ["query", "key", "value"].map((part) => map(`${READS}.${part}`, one.first.out));
    Object.assign(one, attend(one.q, one.k, one.v, n_heads, T));
    x = addTo(map(`${READS}.output`, one.found), x);
    one.second = norm(x, at("feed_forward.norm.weight"), at("feed_forward.norm.bias"), norm_eps, T);
    one.up = map(`${FEEDS}.up`, one.second.out);
    one.hidden = one.up.map(gelu);
    x = addTo(map(`${FEEDS}.down`, one.hidden), x);
    kept.push(one);
  }
  const last = norm(x, parameters["norm.weight"], parameters["norm.bias"], norm_eps, T), logits = linear(last.out, table, null, T);
  const [loss, slopes] = crossEntropy(logits, tokens, T, share);

  const tableGradient = gradients["token_embedding.weight"];
  let back = linearBack(slopes, last.out, table, T, tableGradient, null);
  back = normBack(back, last, parameters["norm.weight"], T, gradients["norm.weight"], gradients["norm.bias"]);
  for (let layer = n_layers - 1; layer >= 0; layer--) {
    const one = kept[layer], at = layerOf(model, layer), to = layerOf({ parameters: gradients }, layer);
    const mapBack = (part, given, y) => linearBack(given, y, at(`${part}.weight`), T, to(`${part}.weight`), to(`${part}.bias`));
    const through = (part, given, stored) => normBack(given, stored, at(`${part}.norm.weight`), T, to(`${part}.norm.weight`), to(`${part}.norm.bias`));
    const hidden = mapBack(`${FEEDS}.down`, back, one.hidden).map((g, i) => g * geluSlope(one.up[i]));
    back = addTo(through("feed_forward", mapBack(`${FEEDS}.up`, hidden, one.second.out), one.second), back);
    const parts = attendBack(mapBack(`${READS}.output`, back, one.found), one.q, one.k, one.v, one.weights, T);
    const read = ["query", "key", "value"].map((part, n) => mapBack(`${READS}.${part}`, parts[n], one.first.out)).reduce(addTo);
    back = addTo(through("attention", read, one.first), back);
  }
  back.forEach((g, i) => { tableGradient[tokens[Math.floor(i / d)] * d + i % d] += g; });
  addTo(gradients["position_embedding.table.weight"].subarray(0, T * d), back);
  return loss;
}

/** The mean of -ln p over the targets, and its gradient at the logits, times `share`. */
function crossEntropy(logits, tokens, T, share) {
  const width = logits.length / T, slopes = new Float32Array(logits.length);
  let loss = 0;
  for (let t = 0; t < T; t++) {
    const scores = logits.subarray(t * width, (t + 1) * width), most = scores.reduce((a, b) => Math.max(a, b)), target = tokens[t + 1];
    let whole = 0;
    for (const one of scores) whole += Math.exp(one - most);
    loss += (most + Math.log(whole) - scores[target]) / T;
    for (let i = 0; i < width; i++) slopes[t * width + i] = (Math.exp(scores[i] - most) / whole - +(i === target)) * share / T;
  }
  return [loss, slopes];
}

/** AdamW as in PyTorch, with its usual settings (Loshchilov and Hutter 2019, algorithm 2). `step` changes the parameters. */
export function adamW(parameters, { rate, betas: [first, second] = [0.9, 0.999], eps = 1e-8, decay = 0.01 }) {
  const means = zeros(parameters), squares = zeros(parameters);
  let steps = 0;
  return { step(gradients) {
    steps += 1;
    const size = rate / (1 - first ** steps), root = Math.sqrt(1 - second ** steps);
    for (const [name, values] of Object.entries(parameters)) {
      const m = means[name], v = squares[name], g = gradients[name];
      for (let i = 0; i < values.length; i++) {
        m[i] += (1 - first) * (g[i] - m[i]);
        v[i] = second * v[i] + (1 - second) * g[i] ** 2;
        values[i] = values[i] * (1 - rate * decay) - size * m[i] / (Math.sqrt(v[i]) / root + eps);
      }
    }
  } };
}

/** Train without end, in slices: each `next` takes one sequence, and gives the loss of a batch when one is done, null before. */
export function* learning(model, tokens, { batch, rate, random }) {
  const { max_len } = model.config, length = Math.min(max_len, tokens.length - 1), optimizer = adamW(model.parameters, { rate });
  while (true) {
    const gradients = zeros(model.parameters);
    let loss = 0;
    for (let n = 1; n <= batch; n++) {
      const from = Math.floor(random() * (tokens.length - length));
      loss += lossAndGradients(model, tokens.slice(from, from + length + 1), gradients, 1 / batch) / batch;
      if (n < batch) yield null;
    }
    optimizer.step(gradients);
    yield loss;
  }
}
