// What a decoder costs: its parameters, the memory to run and to train it, operations, tokens per second, days and a price.
// State: models [{name, the sizes below, parts}], hardware [name, operations, bandwidth, memory], example (a price); preset, width, layers, heads, key_heads,
// hidden, vocabulary, context; machine, batch (texts at once), format; tokens, chips, utilisation, checkpointed, price (of a chip-hour).

import { choice, clamp, count, e, figure, numbers, plural, readout, slider, toggle, total } from "./lib.js";
import { amount, digits, duration, memoryText, nearest, power } from "./amounts.js";

// --- what `transformer_course.scaling` counts, in the same words

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
export const flopsPerToken = (c, training = false) => (2 * multiplied(c) + 4 * c.width * keys(c) * c.layers) * (training ? 3 : 1);
export const cacheBytes = (c, batch, size) => 2 * c.layers * c.key_heads * (c.width / c.heads) * keys(c) * batch * size;
export function trainingMemory(c, batch, checkpointed) {
  const norm = c.norm === "rms" ? 2 * c.width + 1 : c.width + 2, all = allParameters(c);
  const attends = 5 * c.width + c.heads + (c.positions === "rope" ? c.width : 0), hidden = c.width + ({ relu: 1, swiglu: 4 }[c.activation] ?? 2) * c.hidden * c.active;
  const block = 2 * norm + attends + hidden, head = (c.norm_first ? norm : 0) + c.width + c.vocabulary;
  const kept = checkpointed ? c.layers * c.width + Math.max(block, head) : c.layers * block + head;
  return { weights: 4 * all, gradients: 4 * all, optimiser: 8 * all, activations: 4 * kept * batch * c.context };
}
/** Of one machine: how long a step reads and how long it computes, the bytes that it needs, and its tokens per second, 0 where they do not fit. */
export function generating(c, [operations, bandwidth, memory], batch, size) {
  const caches = cacheBytes(c, batch, size), weights = allParameters(c) * size, plain = { ...c, bias: false };
  const idle = (1 - c.active / c.experts) ** batch, experts = feedForward(plain) - (c.experts > 1 ? c.width * c.experts : 0);
  const read = ((multiplied(c, c.experts) - idle * c.layers * experts) * size + caches) / bandwidth, compute = (batch * flopsPerToken(c)) / operations;
  return { weights, caches, read, compute, speed: weights + caches > memory ? 0 : batch / Math.max(read, compute) };
}
export const trainingSeconds = (c, tokens, [operations], chips, utilisation) => (tokens * flopsPerToken(c, true)) / (chips * operations * utilisation);

// --- what a reader can choose: every size is one of some numbers

const FORMATS = [["32 bits", 4], ["16 bits", 2], ["8 bits", 1]];
const powers = (low, high) => Array.from({ length: high - low + 1 }, (_, n) => 2 ** (low + n));
const steps = (by, most) => Array.from({ length: most / by }, (_, n) => by * (n + 1));
/** The numbers of heads that divide a width, so that a head's numbers are paired. */
export const divisors = (whole, even = false) => Array.from({ length: whole }, (_, n) => n + 1).filter((n) => whole % n === 0 && !(even && (whole / n) % 2));
const SIZES = { width: steps(64, 16384), layers: steps(1, 128), hidden: steps(64, 65536), vocabulary: [256, 1e3, 4e3, 8e3, 16e3, 32e3, 64e3, 1e5, 128e3, 2e5, 256e3], context: powers(6, 17) };
const WORK = { batch: powers(0, 12), chips: powers(0, 16), utilisation: steps(1, 20).map((n) => n / 20), tokens: Array.from({ length: 9 }, (_, n) => [1, 1.5, 2, 3, 5, 7].map((x) => Number(`${x}e${n + 6}`))).flat() };
/** The config of a state: what is out of range becomes what is nearest. */
export function config(model, stops, get) {
  const size = (key) => nearest(stops[key], Number(get(key))), c = { ...model, width: size("width"), layers: size("layers"), hidden: size("hidden"), vocabulary: size("vocabulary"), context: size("context") };
  c.heads = nearest(divisors(c.width, model.positions === "rope"), Number(get("heads")));
  c.key_heads = nearest(divisors(c.heads), Number(get("key_heads")));
  return c;
}

export function check({ models, hardware, example }) {
  if (!models.length || models.length > 8) throw new RangeError(`there may be 1 to 8 models, got ${models.length}`);
  for (const model of models)
    for (const key of [...Object.keys(SIZES), "heads", "key_heads", "experts", "active"])
      if (!(Number.isInteger(model[key]) && model[key] >= 1)) throw new RangeError(`${key} of ${model.name} must be a whole number from 1, got ${model[key]}`);
  if (!hardware.length || hardware.length > 8) throw new RangeError(`there may be 1 to 8 machines, got ${hardware.length}`);
  for (const [name, ...rates] of hardware)
    if (rates.length !== 3 || rates.some((x) => !(Number.isFinite(x) && x > 0))) throw new RangeError(`${name} must have three numbers above 0, got ${rates.join(", ")}`);
  if (!(Number.isFinite(example) && example >= 0)) throw new RangeError(`the example of a price must not be negative, got ${example}`);
}

/** A result: a title, parts of a whole in one line with their amounts under it, facts and a sentence. */
function result(names) {
  const parts = names.map((_, n) => e(`span.live-role-${n}`)), amounts = names.map((_, n) => e("span", {}, e(`i.live-key.live-role-${n}`), ""));
  const title = e("p.live-title"), facts = e("p.live-facts"), says = readout();
  const node = e("div.live-box", {}, title, e("div.live-stack", { "aria-hidden": "true" }, ...parts), e("p.live-scale.live-legend", {}, ...amounts), facts, says.node);
  return { node, set(heading, values, text, whole, rows, sentence) {
    title.textContent = heading;
    values.forEach((x, n) => {
      parts[n].style.inlineSize = `${(100 * x) / Math.max(whole, total(values))}%`;
      amounts[n].lastChild.data = `${names[n]} ${text(x)}`;
      amounts[n].hidden = !x;
    });
    facts.replaceChildren(...rows.flatMap(([name, value]) => [e("span", {}, name), e("strong", {}, value)]));
    says.say(null, sentence);
  } };
}

function draw({ body, data, get, index, put, on }) {
  check(data);
  const { models, hardware, example } = data;
  const withMore = (stops, more) => [...new Set([...stops, ...more.filter((x) => Number.isFinite(x) && x > 0)])].sort((a, b) => a - b);
  const stops = Object.fromEntries(Object.entries(SIZES).map(([key, some]) => [key, withMore(some, models.map((model) => model[key]))]));
  for (const [key, some] of Object.entries(WORK)) stops[key] = withMore(some, key === "tokens" ? [get(key)].filter((x) => x <= 1e15) : []);
  const model = () => models[index("preset", models.length)], now = () => config(model(), stops, get), work = (key) => nearest(stops[key], Number(get(key)));
  const machine = () => hardware[index("machine", hardware.length)], bytes = () => FORMATS[index("format", 3)][1];
  const price = () => (typeof get("price") === "number" && get("price") >= 0 ? get("price") : null);

  const sliders = {}, over = { heads: () => divisors(now().width, model().positions === "rope"), key_heads: () => divisors(now().heads) };
  function size(key, label, says = count, oninput = (x) => put(key, x)) {
    const numbers = over[key] ?? (() => stops[key]), one = slider(label, { max: 1, says: (n) => says(numbers()[clamp(n, 0, numbers().length - 1)]), oninput: (n) => oninput(numbers()[n]) });
    sliders[key] = (value) => { one.input.max = numbers().length - 1; one.set(numbers().indexOf(value)); };
    return one.node;
  }
  function rescale(width) {                         // heads keep their width, and the hidden layer its share
    const c = now(), heads = nearest(divisors(width, model().positions === "rope"), (width * c.heads) / c.width);
    put("hidden", nearest(stops.hidden, (width * c.hidden) / c.width));
    put("width", width);
    put("heads", heads);
    put("key_heads", nearest(divisors(heads), (heads * c.key_heads) / c.heads));
  }
  const pick = choice("Model", models.map(({ name }) => name), (n) => { put("preset", n); for (const key of [...Object.keys(SIZES), "heads", "key_heads"]) put(key, models[n][key]); });
  const device = choice("Chip", hardware.map(([name]) => name), (n) => put("machine", n)), format = choice("Numbers", FORMATS.map(([name]) => name), (n) => put("format", n));
  const checkpointing = toggle("Gradient checkpointing", (checked) => put("checkpointed", checked));
  const typed = e("input.live-area", { type: "number", min: 0, step: "any", inputmode: "decimal", oninput: () => put("price", typed.value === "" ? null : Number(typed.value)) });
  const counted = result(["embedding", "positions", "attention", "feed-forward", "norms", "head"]), runs = result(["weights", "cache"]), trains = result(["weights", "gradients", "optimiser", "activations"]), paper = e("p.live-paper");
  const table = numbers("Every machine, as a table", () => { const c = now(), texts = work("batch"); return { head: ["chip", "memory", "FLOPs per byte at the corner", "tokens per second", `training on ${plural(work("chips"), "chip")}`],
    rows: hardware.map(([name, ...rates]) => { const { speed } = generating(c, rates, texts, bytes()); return [name, memoryText(rates[2]), digits(rates[0] / rates[1]), speed ? digits(speed) : "does not fit", duration(trainingSeconds(c, work("tokens"), rates, work("chips"), work("utilisation")))]; }) }; });
  body.append(pick.node,
    e("div.live-controls.live-turns", {}, size("width", "Width", count, rescale), size("layers", "Layers"), size("heads", "Heads"), size("key_heads", "Key heads"), size("hidden", "Hidden width"), size("vocabulary", "Vocabulary"), size("context", "Context", (n) => plural(n, "token"))),
    counted.node,
    e("div.live-controls", {}, device.node, format.node), e("div.live-controls", {}, size("batch", "Texts at once"), checkpointing.node),
    runs.node,
    e("div.live-controls.live-turns", {}, size("tokens", "Training text", (n) => `${amount(n)} tokens`), size("chips", "Chips"), size("utilisation", "Share of their peak", (x) => `${Math.round(100 * x)} %`)),
    e("label.live-price", {}, e("span", {}, `Price of a chip-hour: type yours, in any currency (${example} is only an example)`), typed),
    trains.node, paper, table.node);

  function paint() {
    const c = now(), [name, ...rates] = machine(), texts = work("batch"), tokens = work("tokens"), chips = work("chips"), utilisation = work("utilisation"), same = Object.keys(sliders).every((key) => !(key in model()) || c[key] === model()[key]);
    pick.set(index("preset", models.length));
    if (!same) pick.chips.forEach((chip) => { chip.querySelector("input").checked = false; });
    for (const key of [...Object.keys(SIZES), "heads", "key_heads"]) sliders[key](c[key]);
    for (const key of Object.keys(WORK)) sliders[key](work(key));
    device.set(index("machine", hardware.length));
    format.set(index("format", 3));
    checkpointing.set(Boolean(get("checkpointed")));
    if (document.activeElement !== typed) typed.value = price() ?? "";

    const all = allParameters(c), active = activeParameters(c), rule = 12 * c.layers * c.width ** 2;
    counted.set(`${count(all)} parameters${same ? "" : `, with the parts of ${model().name}`}`, Object.values(parameters(c)), amount, 0,
      [...(active < all ? [["of them active", count(active)]] : []), ["width of a head", count(c.width / c.heads)], ["FLOPs per token", amount(flopsPerToken(c))], ["in training", amount(flopsPerToken(c, true))]],
      `12 L d² gives ${amount(rule)}, ${digits((100 * rule) / all)} % of the count.`);

    const { weights, caches, read, compute, speed } = generating(c, rates, texts, bytes());
    runs.set(speed ? `Writes at most ${plural(Number(speed.toPrecision(3)), "token")} per second` : `Needs ${memoryText(weights + caches)}: does not fit into ${memoryText(rates[2])}`, [weights, caches], memoryText, rates[2],
      [["each text gets", speed ? `${digits(speed / texts)} tokens per second` : "none"], ["a step reads for", duration(read)], ["and computes for", duration(compute)]],
      speed ? `On one ${name}, with texts of ${plural(c.context, "token")}, a step is limited by ${read > compute ? "the bytes that it reads" : "its arithmetic"}.` : `One ${name} is too small for the weights and the cache of ${plural(texts, "text")}.`);

    const memory = Object.values(trainingMemory(c, texts, get("checkpointed"))), seconds = trainingSeconds(c, tokens, rates, chips, utilisation), hours = (chips * seconds) / 3600;
    trains.set(`Training takes ${duration(seconds)}`, memory, memoryText, 0,
      [["memory in 32 bits", memoryText(total(memory))], [`as much as ${name} chips hold`, count(Math.ceil(total(memory) / rates[2]))], ["FLOPs in all", power(tokens * flopsPerToken(c, true))], ["chip-hours", amount(hours)],
        ["cost", price() === null ? "type a price" : `${amount(hours * price())}${price() === example ? ", at the price of the example" : ""}`]],
      `${amount(tokens)} tokens on ${plural(chips, "chip")} at ${Math.round(100 * utilisation)} % of their peak; the memory is that of a step with ${plural(texts, "text")}.`);
    paper.textContent = `${model().name}: width ${count(c.width)}, layers ${c.layers}, heads ${c.heads}, key heads ${c.key_heads}, hidden width ${count(c.hidden)}, vocabulary ${count(c.vocabulary)}, context ${count(c.context)}. ${FORMATS[index("format", 3)][0]} on ${name}.`;
    table.refresh();
  }
  let asked = false;                                // a new width changes four sizes: drawn once
  const soon = () => { if (!asked) queueMicrotask(() => { asked = false; if (body.isConnected) paint(); }); asked = true; };
  on([...Object.keys(sliders), "preset", "machine", "format", "checkpointed", "price"].join(" "), soon);
  paint();
}

export default figure("model_calculator", ["models", "hardware", "example"], draw);
