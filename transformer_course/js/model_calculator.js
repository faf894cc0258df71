// What a decoder costs: its parameters, the memory to run and to train it, operations, tokens per second, days and a price.
// State: models [{name, the sizes below, parts}], hardware [name, operations, bandwidth, memory], example (a price); preset, width, layers, heads, key_heads,
// hidden, vocabulary, context; machine, batch (texts at once), format; tokens, chips, utilisation, checkpointed, price (of a chip-hour).

import { choice, count, e, figure, numbers, plural, readout, toggle, total } from "./lib.js";
import { amount, digits, duration, memoryText, nearest, power } from "./amounts.js";
import { activeParameters, allParameters, flopsPerToken, generating, parameters, trainingMemory, trainingSeconds } from "./counts.js";
import { checkOffer, decoder, powers, steps, withMore } from "./decoder.js";

const FORMATS = [["32 bits", 4], ["16 bits", 2], ["8 bits", 1]];
const WORK = { batch: powers(0, 12), chips: powers(0, 16), utilisation: steps(1, 20).map((n) => n / 20), tokens: Array.from({ length: 9 }, (_, n) => [1, 1.5, 2, 3, 5, 7].map((x) => Number(`${x}e${n + 6}`))).flat() };

export function check({ models, hardware, example }) {
  checkOffer({ models, hardware });
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
  const { pick, size, stops, model, now, set, follow } = decoder(models, { body, get, index, put, on });
  for (const [key, some] of Object.entries(WORK)) stops[key] = withMore(some, key === "tokens" ? [get(key)].filter((x) => x <= 1e15) : []);
  const work = (key) => nearest(stops[key], Number(get(key)));
  const machine = () => hardware[index("machine", hardware.length)], bytes = () => FORMATS[index("format", 3)][1];
  const price = () => (typeof get("price") === "number" && get("price") >= 0 ? get("price") : null);

  const device = choice("Chip", hardware.map(([name]) => name), (n) => put("machine", n)), format = choice("Numbers", FORMATS.map(([name]) => name), (n) => put("format", n));
  const checkpointing = toggle("Gradient checkpointing", (checked) => put("checkpointed", checked));
  const typed = e("input.live-area", { type: "number", min: 0, step: "any", inputmode: "decimal", oninput: () => put("price", typed.value === "" ? null : Number(typed.value)) });
  const counted = result(["embedding", "positions", "attention", "feed-forward", "norms", "head"]), runs = result(["weights", "cache"]), trains = result(["weights", "gradients", "optimiser", "activations"]), paper = e("p.live-paper");
  const table = numbers("Every machine, as a table", () => { const c = now(), texts = work("batch"); return { head: ["chip", "memory", "FLOPs per byte at the corner", "tokens per second", `training on ${plural(work("chips"), "chip")}`],
    rows: hardware.map(([name, ...rates]) => { const { speed } = generating(c, rates, texts, bytes()); return [name, memoryText(rates[2]), digits(rates[0] / rates[1]), speed ? digits(speed) : "does not fit", duration(trainingSeconds(c, work("tokens"), rates, work("chips"), work("utilisation")))]; }) }; });
  body.append(pick,
    e("div.live-controls.live-turns", {}, size("width", "Width"), size("layers", "Layers"), size("heads", "Heads"), size("key_heads", "Key heads"), size("hidden", "Hidden width"), size("vocabulary", "Vocabulary"), size("context", "Context", (n) => plural(n, "token"))),
    counted.node,
    e("div.live-controls", {}, device.node, format.node), e("div.live-controls", {}, size("batch", "Texts at once"), checkpointing.node),
    runs.node,
    e("div.live-controls.live-turns", {}, size("tokens", "Training text", (n) => `${amount(n)} tokens`), size("chips", "Chips"), size("utilisation", "Share of their peak", (x) => `${Math.round(100 * x)} %`)),
    e("label.live-price", {}, e("span", {}, `Price of a chip-hour: type yours, in any currency (${example} is only an example)`), typed),
    trains.node, paper, table.node);

  function paint() {
    const c = now(), [name, ...rates] = machine(), texts = work("batch"), tokens = work("tokens"), chips = work("chips"), utilisation = work("utilisation");
    const same = set(Object.fromEntries(Object.keys(WORK).map((key) => [key, work(key)])));
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
  follow([...Object.keys(WORK), "machine", "format", "checkpointed", "price"], paint);
}

export default figure("model_calculator", ["models", "hardware", "example"], draw);
