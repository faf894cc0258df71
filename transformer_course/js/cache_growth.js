// What a cache of keys and values keeps while a text is written, and how much memory it takes for a long one.
// State: tokens; prompt (tokens read at once); layers, width (of a head), shares [name, key heads], weights (bytes), memory (bytes of the
// device), longest (exponent of 2); shown (tokens so far), kept (is there a cache), length, batch (exponents), share, format.

import { bar, button, choice, clamp, count, e, figure, numbers, plural, readout, slider, toggle, visible } from "./lib.js";
import { memoryText } from "./amounts.js";

export const FORMATS = [["32 bits", 4], ["16 bits", 2], ["8 bits", 1]];
/** The columns of keys and values that the step computes which has read n tokens: the first step reads the prompt. */
export const computed = (n, prompt, kept) => (n <= prompt ? prompt : kept ? 1 : n);
export const soFar = (n, prompt, kept) => Array.from({ length: n - prompt + 1 }, (_, i) => computed(prompt + i, prompt, kept)).reduce((sum, x) => sum + x, 0);
/** Bytes of keys and values for one token of one text. */
export const bytesOfToken = ({ layers, width }, heads, size) => 2 * layers * heads * width * size;

export function check({ tokens, prompt, layers, width, shares, weights, memory, longest }) {
  if (!tokens.length || tokens.length > 24) throw new RangeError(`${count(tokens.length)} tokens can't be drawn; there may be 1 to 24`);
  if (!(prompt >= 1 && prompt <= tokens.length)) throw new RangeError(`the prompt must have 1 to ${tokens.length} tokens, got ${prompt}`);
  if (!shares.length || shares.some((one) => one.length !== 2 || !(one[1] >= 1))) throw new RangeError("a way to share is a name and a number of key heads");
  for (const [what, number] of Object.entries({ layers, width, weights, memory, longest }))
    if (!(Number.isFinite(number) && number >= 1)) throw new RangeError(`${what} must be at least 1, got ${number}`);
  if (longest > 24) throw new RangeError(`longest is an exponent of 2 up to 24, got ${longest}`);
}

function draw({ body, data, get, index, put, on }) {
  check(data);
  const { prompt, shares, weights, memory, longest } = data, tokens = data.tokens.map(visible);
  const shown = () => clamp(get("shown") | 0, prompt, tokens.length), kept = () => Boolean(get("kept"));

  const words = tokens.map((token) => e("span.live-word", {}, token));
  const columns = tokens.map(() => [e("i.live-beat"), e("i.live-beat")]);
  const write = button("Generate", () => put("shown", shown() < tokens.length ? shown() + 1 : prompt));
  write.classList.add("live-first");
  const back = button("Take one back", () => put("shown", shown() - 1)), cached = toggle("Cache", (now) => put("kept", now));
  const step = readout();
  const lane = e("div.live-lane.live-columns", { "aria-hidden": "true" }, ...[0, 1].map((row) => e("div", {}, e("span.live-label", {}, ["keys", "values"][row]), ...columns.map((pair) => pair[row]))));
  const legend = e("p.live-scale", { "aria-hidden": "true" }, ...[["live-beats", "computed in this step"], ["live-done", "kept"], ["live-waits", "not there"]].flatMap(([kind, says]) => [e(`i.live-key.live-beat.${kind}`), says]));

  const long = slider("Text", { max: longest, says: (n) => plural(2 ** n, "token"), oninput: (n) => put("length", n) });
  const many = slider("Texts at once", { max: 10, says: (n) => count(2 ** n), oninput: (n) => put("batch", n) });
  const heads = choice("Key heads", shares.map(([name, n]) => `${name}: ${n}`), (n) => put("share", n));
  const format = choice("Numbers", FORMATS.map(([name]) => name), (n) => put("format", n));
  const model = bar(), cache = bar(), title = e("p.live-title"), facts = e("p.live-facts"), says = readout();
  const one = () => bytesOfToken(data, shares[index("share", shares.length)][1], FORMATS[index("format", FORMATS.length)][1]);
  const table = numbers("The cache for other lengths, as a table", () => ({ head: ["tokens", ...shares.map(([name]) => name)],
    rows: Array.from({ length: longest + 1 }, (_, n) => n).filter((n) => n % 2 === longest % 2).map((n) => [count(2 ** n),
      ...shares.map(([, number]) => memoryText(bytesOfToken(data, number, FORMATS[index("format", FORMATS.length)][1]) * 2 ** (n + clamp(get("batch") | 0, 0, 10))))]) }));
  body.append(e("p.live-text", {}, ...words, e("span.live-caret", { "aria-hidden": "true" })), e("div.live-controls", {}, write, back, cached.node), lane, legend, step.node,
    e("div.live-controls", {}, long.node, many.node), e("div.live-controls", {}, heads.node, format.node),
    e("div.live-panel", {}, e("p.live-panel-name", {}, `Memory of a device with ${memoryText(memory)}`), e("div.live-meter", {}, model.node, cache.node), e("p.live-scale", { "aria-hidden": "true" }, e("i.live-key.live-weights"), "weights", e("i.live-key.live-done"), "cache")),
    e("div.live-box", {}, title, facts, says.node), table.node);

  function paint() {
    const n = shown(), now = computed(n, prompt, kept());
    words.forEach((word, i) => { word.classList.toggle("live-later", i >= n); word.classList.toggle("live-new", i >= Math.max(n - 1, n === prompt ? 0 : n - 1) && i < n); word.setAttribute("aria-hidden", String(i >= n)); });
    columns.forEach((pair, i) => pair.forEach((cell) => { cell.classList.toggle("live-beats", i < n && i >= n - now); cell.classList.toggle("live-done", i < n - now); }));
    cached.set(kept());
    write.textContent = n < tokens.length ? "Generate" : "Start again";
    back.disabled = n === prompt;
    step.say(null, n === prompt ? `Prefill: the prompt's ${plural(n, "column")} of keys and values are computed at once.`
      : `This step computes ${plural(now, "column")}. Since the prompt: ${count(soFar(n, prompt, kept()))} in all, ${kept() ? `${count(soFar(n, prompt, false))} without a cache` : `${count(soFar(n, prompt, true))} with one`}.`);
    table.refresh();
  }
  function weigh() {
    const length = clamp(get("length") | 0, 0, longest), batch = clamp(get("batch") | 0, 0, 10), size = one() * 2 ** (length + batch), left = memory - weights;
    long.set(length);
    many.set(batch);
    heads.set(index("share", shares.length));
    format.set(index("format", FORMATS.length));
    model.set(Math.min(weights / memory, 1));
    cache.set(clamp(size / memory, 0, Math.max(1 - weights / memory, 0)));
    cache.node.classList.toggle("live-over", size > left);
    title.textContent = `Cache: ${memoryText(size)}${size > left ? ", which does not fit" : ""}`;
    facts.replaceChildren(...[["for each token of a text", memoryText(one())], ["weights", memoryText(weights)], ["left beside the weights", left > 0 ? memoryText(left) : "nothing"]].flatMap(([name, value]) => [e("span", {}, name), e("strong", {}, value)]));
    says.say(null, `Beside the weights there is room for ${plural(Math.max(Math.floor(left / one()), 0), "token")} in all texts together.`);
    table.refresh();
  }
  on("shown kept", paint);
  on("length batch share format", weigh);
  paint();
  weigh();
}

export default figure("cache_growth", ["tokens", "prompt", "layers", "width", "shares", "weights", "memory", "longest"], draw);
