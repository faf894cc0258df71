// A decoder and a machine that a reader chooses: a preset, then sizes, each of them one of some numbers.
// State: models [{name, the sizes, parts}], hardware [name, operations, bandwidth, memory]; preset, width, layers, heads, key_heads, hidden, vocabulary, context.

import { choice, clamp, count, slider } from "./lib.js";
import { nearest } from "./amounts.js";

export const powers = (low, high) => Array.from({ length: high - low + 1 }, (_, n) => 2 ** (low + n));
export const steps = (by, most) => Array.from({ length: most / by }, (_, n) => by * (n + 1));
export const withMore = (stops, more) => [...new Set([...stops, ...more.filter((x) => Number.isFinite(x) && x > 0)])].sort((a, b) => a - b);
/** The numbers of heads that divide a width, so that a head's numbers are paired. */
export const divisors = (whole, even = false) => Array.from({ length: whole }, (_, n) => n + 1).filter((n) => whole % n === 0 && !(even && (whole / n) % 2));
const SIZES = { width: steps(64, 16384), layers: steps(1, 128), hidden: steps(64, 65536), vocabulary: [256, 1e3, 4e3, 8e3, 16e3, 32e3, 64e3, 1e5, 128e3, 2e5, 256e3], context: powers(6, 17) };
const KEYS = [...Object.keys(SIZES), "heads", "key_heads"];
/** The config of a state: what is out of range becomes what is nearest. */
export function config(model, stops, get) {
  const size = (key) => nearest(stops[key], Number(get(key))), c = { ...model, width: size("width"), layers: size("layers"), hidden: size("hidden"), vocabulary: size("vocabulary"), context: size("context") };
  c.heads = nearest(divisors(c.width, model.positions === "rope"), Number(get("heads")));
  c.key_heads = nearest(divisors(c.heads), Number(get("key_heads")));
  return c;
}

export function checkOffer({ models, hardware }) {
  if (!models.length || models.length > 8) throw new RangeError(`there may be 1 to 8 models, got ${models.length}`);
  for (const model of models)
    for (const key of [...KEYS, "experts", "active"])
      if (!(Number.isInteger(model[key]) && model[key] >= 1)) throw new RangeError(`${key} of ${model.name} must be a whole number from 1, got ${model[key]}`);
  if (!hardware.length || hardware.length > 8) throw new RangeError(`there may be 1 to 8 machines, got ${hardware.length}`);
  for (const [name, ...rates] of hardware)
    if (rates.length !== 3 || rates.some((x) => !(Number.isFinite(x) && x > 0))) throw new RangeError(`${name} must have three numbers above 0, got ${rates.join(", ")}`);
}

/** Its controls. A list of `stops` may be a function; `size` makes a slider over one, `set` shows the state and says if it is the preset's, `follow` draws after changes. */
export function decoder(models, { body, get, index, put, on }) {
  const model = () => models[index("preset", models.length)], now = () => config(model(), stops, get), sliders = {};
  const stops = Object.fromEntries(Object.entries(SIZES).map(([key, some]) => [key, withMore(some, models.map((one) => one[key]))]));
  Object.assign(stops, { heads: () => divisors(now().width, model().positions === "rope"), key_heads: () => divisors(now().heads) });
  const list = (key) => (typeof stops[key] === "function" ? stops[key]() : stops[key]);
  function size(key, label, says = count, oninput = key === "width" ? rescale : (x) => put(key, x)) {
    const one = slider(label, { max: 1, says: (n) => says(list(key)[clamp(n, 0, list(key).length - 1)]), oninput: (n) => oninput(list(key)[n]) });
    sliders[key] = (value) => { one.input.max = list(key).length - 1; one.set(list(key).indexOf(value)); };
    return one.node;
  }
  function rescale(width) {                         // heads keep their width, and the hidden layer its share
    const c = now(), heads = nearest(divisors(width, model().positions === "rope"), (width * c.heads) / c.width);
    put("hidden", nearest(stops.hidden, (width * c.hidden) / c.width));
    put("width", width);
    put("heads", heads);
    put("key_heads", nearest(divisors(heads), (heads * c.key_heads) / c.heads));
  }
  const pick = choice("Model", models.map(({ name }) => name), (n) => { put("preset", n); for (const key of KEYS) put(key, models[n][key]); });
  function set(more) {
    const c = now(), same = KEYS.every((key) => c[key] === model()[key]);
    pick.set(index("preset", models.length));
    if (!same) pick.chips.forEach((chip) => { chip.querySelector("input").checked = false; });
    for (const [key, value] of Object.entries({ ...c, ...more })) sliders[key]?.(value);
    return same;
  }
  function follow(more, paint) {
    let asked = false;                              // a new width changes four sizes: drawn once
    on(["preset", ...KEYS, ...more].join(" "), () => { if (!asked) queueMicrotask(() => { asked = false; if (body.isConnected) paint(); }); asked = true; });
    paint();
  }
  return { pick: pick.node, size, stops, list, model, now, set, follow };
}
