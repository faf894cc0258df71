// What limits a chip: operations per second by operations per byte, and where three works of a reader's own decoder stand, in 16 bits.
// State: models [{name, the sizes, parts}], hardware [name, operations, bandwidth, memory]; preset, width, layers, heads, key_heads,
// hidden, vocabulary, context; machine, batch (texts at once), prompt (tokens).

import { choice, clamp, count, e, figure, numbers, plural, readout } from "./lib.js";
import { digits, memoryText, nearest, power } from "./amounts.js";
import { allParameters, attentionFlops, cacheBytes, flopsPerToken, reachable, weightsRead } from "./counts.js";
import { checkOffer, decoder, powers, withMore } from "./decoder.js";

const SIZE = 2, BATCHES = powers(0, 12), ACROSS = [-1, 6];               // bytes of a number; powers of ten of the FLOPs per byte
/** The three works: a step that writes for a batch of texts, the attention in it, and the reading of a prompt. The bytes that a work reads, and those that the memory must hold. */
export function works(c, batch, prompt) {
  const caches = cacheBytes(c, batch, SIZE), holds = allParameters(c) * SIZE + caches, read = { ...c, context: prompt }, own = cacheBytes(read, 1, SIZE);
  return [{ tokens: batch, flops: batch * flopsPerToken(c), bytes: weightsRead(c, batch, SIZE) + caches, holds },
    { tokens: prompt, flops: prompt * flopsPerToken(read), bytes: weightsRead(c, prompt, SIZE) + own, holds: allParameters(c) * SIZE + own },
    { tokens: batch, flops: batch * attentionFlops(c), bytes: caches, holds }];
}
/** What a machine reaches at most of it: FLOPs per byte, FLOPs per second and their share of the peak, and tokens per second, 0 where it does not fit. */
export function reaches({ tokens, flops, bytes, holds }, machine) {
  const intensity = flops / bytes, rate = reachable(machine, intensity);
  return { intensity, rate, share: rate / machine[0], speed: holds > machine[2] ? 0 : (tokens * rate) / flops };
}
/** What the intensity of writing comes close to with ever more texts, whose weights are read once. */
export const most = (c) => flopsPerToken(c) / cacheBytes(c, 1, SIZE);
/** How many texts bring writing to a machine's corner; Infinity where no number does. Of a mixture so many use all experts. */
export function enough(c, [operations, bandwidth]) {
  const left = flopsPerToken(c) - (operations / bandwidth) * cacheBytes(c, 1, SIZE);
  return left > 0 ? Math.ceil(((operations / bandwidth) * weightsRead(c, Infinity, SIZE)) / left) : Infinity;
}

const limit = (intensity, [operations, bandwidth]) => (intensity < operations / bandwidth ? "bytes" : "arithmetic");
const percent = (share) => `${digits(100 * share)} %`;

function draw({ body, data, get, index, put, on }) {
  checkOffer(data);
  const { models, hardware } = data;
  const { pick, size, stops, list, model, now, set, follow } = decoder(models, { body, get, index, put, on });
  stops.batch = BATCHES;
  stops.prompt = () => withMore(powers(0, 17), [Number(get("prompt")), now().context]).filter((n) => n <= now().context && Number.isInteger(n));
  const machine = () => hardware[index("machine", hardware.length)], chosen = (key) => nearest(list(key), Number(get(key)));
  const ends = [Math.floor(Math.log10(Math.min(...hardware.map(([, , bandwidth]) => bandwidth)))) - 1, Math.ceil(Math.log10(Math.max(...hardware.map(([, operations]) => operations))))];
  const across = (intensity) => (Math.log10(intensity) - ACROSS[0]) / (ACROSS[1] - ACROSS[0]), down = (rate) => (ends[1] - Math.log10(rate)) / (ends[1] - ends[0]);

  const device = choice("Chip", hardware.map(([name]) => name), (n) => put("machine", n)), tokens = (n) => plural(n, "token");
  const svg = e("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" }), dots = ["write", "read", "look"].map((kind) => e(`span.live-dot.live-${kind}`)), trail = BATCHES.map(() => e("span.live-dot.live-step"));
  const marks = (axis, [low, high]) => Array.from({ length: high - low + 1 }, (_, n) => e("span", { style: `left: ${(100 * n) / (high - low)}%` }, axis(10 ** (low + n))));
  const rules = Array.from({ length: ends[1] - ends[0] + 1 }, (_, n) => e("span.live-rule", { style: `bottom: ${(100 * n) / (ends[1] - ends[0])}%` }, e("span", {}, power(10 ** (ends[0] + n)))));
  const corner = e("span"), sides = e("p.live-sides", {}, e("span", {}, "bytes limit"), e("span", {}, corner, e("br"), "arithmetic limits"));
  const chart = e("div.live-chart.live-roof", { "aria-hidden": "true" }, ...rules, svg, sides, ...trail, ...dots);
  const ticks = e("div.live-ticks", { "aria-hidden": "true" }, ...marks((x) => (x < 1 ? String(x) : x < 1e4 ? count(x) : power(x)), ACROSS));
  const boxes = [["write", "Generating"], ["read", "Reading a prompt"], ["look", "Attention over the cache alone"]].map(([kind, title]) => { const [under, facts] = ["label", "facts"].map((part) => e(`p.live-${part}`)); return { under, facts, node: e("div.live-box", {}, e("p.live-title", {}, e(`i.live-key.live-${kind}`), title), under, facts) }; });
  const says = readout(), paper = e("p.live-paper");
  const table = numbers("Every batch, as a table", () => ({ head: ["texts", "FLOPs per byte", "of attention alone", "share of the peak", "tokens per second", "each text gets"],
    rows: ((c) => BATCHES.map((batch) => { const [write, , look] = works(c, batch, 1).map((one) => reaches(one, machine().slice(1))); return [count(batch), digits(write.intensity), digits(look.intensity), percent(write.share), write.speed ? digits(write.speed) : "does not fit", write.speed ? digits(write.speed / batch) : "none"]; }))(now()) }));
  body.append(pick, e("div.live-controls.live-turns", {}, size("width", "Width"), size("layers", "Layers"), size("key_heads", "Key heads")),
    device.node, e("div.live-controls.live-turns", {}, size("context", "Context", tokens), size("batch", "Texts at once"), size("prompt", "Prompt", tokens)),
    e("div.live-panel.live-budgets", {}, e("span.live-panel-name", {}, "FLOPs per second, by FLOPs per byte"), chart, ticks, e("p.live-scale", { "aria-hidden": "true" }, e("i.live-key.live-step"), "generating with 1, 2, 4, … 4,096 texts; hollow: they do not fit; thin: the other chips")),
    e("div.live-works", {}, ...boxes.map(({ node }) => node)), says.node, paper, table.node);

  /** A finger or a pressed pointer on the chart chooses the batch whose step stands nearest. */
  function point(event) {
    const place = chart.getBoundingClientRect(), c = now(), at = BATCHES.map((batch) => { const [{ flops, bytes }] = works(c, batch, 1); return across(flops / bytes); });
    put("batch", BATCHES[at.indexOf(nearest(at, (event.clientX - place.left) / place.width))]);
  }
  chart.addEventListener("pointerdown", point);
  chart.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });

  const line = (kind, points) => e(`polyline.${kind}`, { points: points.map(([intensity, rate]) => `${across(intensity)},${down(rate)}`).join(" "), "vector-effect": "non-scaling-stroke" });
  const inside = (intensity) => clamp(intensity, 10 ** ACROSS[0], 10 ** ACROSS[1]), roof = (rates) => [0, rates[0] / rates[1], Infinity].map(inside).map((x) => [x, reachable(rates, x)]);
  const stand = (dot, { intensity, rate }) => Object.assign(dot.style, { left: `${100 * across(inside(intensity))}%`, top: `${100 * down(rate)}%` });
  function paint() {
    const c = now(), batch = chosen("batch"), prompt = chosen("prompt"), [name, ...rates] = machine(), bend = rates[0] / rates[1];
    const same = set({ batch, prompt }), found = works(c, batch, prompt), three = found.map((one) => reaches(one, rates)), [write, , look] = three;
    device.set(index("machine", hardware.length));
    const every = Array.from({ length: 97 }, (_, n) => reaches(works(c, 2 ** (n / 8), 1)[0], rates));
    svg.replaceChildren(...hardware.map(([, ...other]) => line("live-thin", roof(other))), line("live-now", roof(rates)), line("live-path", every.map(({ intensity, rate }) => [inside(intensity), rate])),
      e("line", { x1: across(inside(bend)), x2: across(inside(bend)), y1: down(rates[0]), y2: 1, "vector-effect": "non-scaling-stroke" }));
    corner.textContent = `corner ${digits(bend)}`;
    sides.style.setProperty("--at", `${100 * across(inside(bend))}%`);
    three.forEach((one, n) => stand(dots[n], one));
    trail.forEach((dot, n) => { stand(dot, every[8 * n]); dot.classList.toggle("live-off", !every[8 * n].speed); });
    boxes.forEach(({ under, facts }, n) => {
      const { intensity, share, speed } = three[n];
      under.textContent = n === 1 ? tokens(prompt) : `${plural(batch, "text")} of ${tokens(c.context)}`;
      facts.replaceChildren(...[["FLOPs per byte", digits(intensity)], ["limited by", limit(intensity, rates)], ["of the peak", percent(share)], ["tokens/second", speed ? digits(speed) : `needs ${memoryText(found[n].holds)}`]].flatMap(([what, value]) => [e("span", {}, what), e("strong", {}, value)]));
    });
    const texts = enough(c, rates), many = texts < Infinity && `about ${plural(Number(texts.toPrecision(2)), "text")} reach the corner${works(c, texts, 1)[0].holds > rates[2] ? ", more than its memory holds" : ""}`;
    says.say(null, `${model().name}${same ? "" : ", changed,"} does ${digits(write.intensity)} FLOPs per byte when it generates, and the corner of ${name} stands at ${digits(bend)}. ` +
      `More texts share the weights, but each brings its own cache: no batch does more than ${digits(most(c))}, and ${many || "none reaches the corner"}. Attention over the cache does ${digits(look.intensity)} with any batch.`);
    paper.textContent = `${model().name}${same ? "" : ", changed"}: width ${count(c.width)}, layers ${c.layers}, key heads ${c.key_heads}, on ${name}.`;
    table.refresh();
  }
  follow(["machine", "batch", "prompt"], paint);
}

export default figure("roofline", ["models", "hardware"], draw);
