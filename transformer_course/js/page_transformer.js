// A GPT that runs where the page is read: one that the course has trained, loaded when a reader asks for it, and a small one that
// learns here. State: model (facts), learn (text for the small one); text, temperature, top_k (0: all), top_p, cached, shown (which
// model), head (counted through all layers), row and column of its map (null: the last token, and what it reads most).

import { lay, weight } from "./attention_grid.js";
import { bar, button, choice, clamp, count, e, figure, fixed, largest, numbers, plural, readout, slider, thumbnail, toggle, visible } from "./lib.js";
import { encode, loader, reader } from "./page_reader.js";
import { learning, newModel, randomNumbers } from "./train.js";
import { draw, operationsAt, shares } from "./transformer.js";

export const SMALL = { d_model: 32, n_layers: 2, n_heads: 4, d_ff: 128, max_len: 32, norm_eps: 1e-5 };
const BATCH = 8, RATE = 5e-3, STEPS = 3000, LONGEST = 4000, AT_ONCE = 300, MAPPED = 20, LISTED = 8, PACE = 0.1;       // at most 0.1 characters in a millisecond

/** Operations for the last of `n` tokens when no key and value is kept: all are read again. */
export const without = (model, n) => Array.from({ length: n }, (_, t) => operationsAt(model, t)).reduce((a, b) => a + b, 0);

/** What a head of the last tokens reads: {rows, columns, weights(head)}; a first column “…” holds what is read before them. */
export function lastMap(model, tokens, seen) {
  const n = seen.length, from = Math.max(0, n - MAPPED), rows = tokens.slice(from).map((token) => model.characters[token]);
  const weights = (head) => seen.slice(from).map(({ weights }) => {
    const own = weights[Math.floor(head / model.config.n_heads)][head % model.config.n_heads], shown = rows.map((_, j) => Math.round(1000 * (own[from + j] ?? 0)));
    return from ? [Math.round(1000 * own.slice(0, from).reduce((a, b) => a + b, 0)), ...shown] : shown;
  });
  return { rows, columns: from ? ["…", ...rows] : null, weights };
}

/** The means of `many` stretches of a list, or the list if it is shorter: a curve that a small picture can show. */
export function thinned(list, many) {
  const size = Math.max(1, Math.ceil(list.length / many));
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size)).map((part) => part.reduce((a, b) => a + b, 0) / part.length);
}

const million = (x) => (x < 1e6 ? count(Math.round(x / 1e3) * 1e3) : `${fixed(x / 1e6, 1)} million`);

function show({ body, data: { model: facts, learn }, get, put, index, on, later }) {
  const random = randomNumbers(1), readers = [null, null];
  let activity = null, timer = null;                  // what runs: write or train
  const shown = () => index("shown", 2), now = () => readers[shown()], text = () => String(get("text") ?? "");
  const settings = () => ({ temperature: clamp(+get("temperature") || 0, 0, 2), topK: clamp(get("top_k") | 0, 0, 40), topP: clamp(+get("top_p") || 1, 0.05, 1) });

  const pickModel = choice("Model", ["trained by the course", "small, learns here"], (n) => { stop(); put("shown", n); });
  const gateway = loader(facts, (model) => { readers[0] = reader(model); open(); });
  const preview = e("div.live-place"), gate = e("div.live-desk", {}, e("p", {}, `A GPT of ${count(facts.parameters)} parameters that predicts the next character, and runs in this page. After “${visible(facts.prompt)}” it wrote:`),
    e("p.live-text.live-wrote", {}, facts.sample), e("div.live-controls", {}, gateway.press, gateway.says), e("span.live-panel-name", {}, "What one of its heads reads in these words"), preview);
  const school = teach();
  const desk = write(), map = look();
  const letters = [...facts.prompt], early = lay(preview, { rows: letters, columns: null }, 1000,
    { get, put, row: () => (get("row") == null ? letters.length - 1 : index("row", letters.length)), weights: () => facts.preview.weights });
  body.append(pickModel.node, gate, school.node, desk.node, map.node);
  const seen = new IntersectionObserver(([entry]) => { if (!entry.isIntersecting) stop(); });
  seen.observe(body);
  later(() => { clearTimeout(timer); seen.disconnect(); });

  /** Run `step` again and again, in slices, until it says that it is done. */
  function run(what, step) {
    stop();
    activity = what;
    const slice = () => { timer = setTimeout(slice); if (step()) stop(); };
    timer = setTimeout(slice);
    buttons();
  }
  function stop() {
    clearTimeout(timer);
    if (activity) { activity = null; buttons(); follow(); }
  }
  function buttons() { desk.buttons(); school.buttons(); }

  /** The small model, its text and its curve. */
  function teach() {
    const area = e("textarea.live-area", { rows: 4, "aria-label": "Text to learn from", spellcheck: "false" });
    area.value = learn;
    area.addEventListener("input", () => { stop(); begin(); });
    const go = button("Train", () => (activity === "train" ? stop() : train())), again = button("Start again", () => { stop(); begin(); }), says = readout();
    go.classList.add("live-first");
    const line = e("polyline.live-way-0", { "vector-effect": "non-scaling-stroke" }), rules = e("div"), last = e("span"), sample = e("p.live-text.live-wrote");
    const chart = e("div.live-chart", { "aria-hidden": "true" }, rules, e("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" }, line));
    const table = numbers("The loss as a table", () => ({ head: ["steps", "loss"], rows: thinned(losses, 10).map((loss, i, all) => [count(Math.round(losses.length * (i + 1) / all.length)), fixed(loss, 3)]) }));
    const node = e("div.live-school", {}, e("p", {}, "A smaller GPT learns from this text, or from yours:"), area, e("div.live-controls", {}, e("div.live-player", {}, go, again), says.node),
      e("div.live-panel.live-sizes", {}, e("span.live-panel-name", {}, "Loss, in nats per character"), chart, e("p.live-axis", { "aria-hidden": "true" }, e("span", {}, "0"), e("span", {}, "steps"), last)), sample, table.node);
    let losses = [], course = null, painted = 0;

    function begin() {
      const letters = [...new Set(area.value)].sort(), chance = randomNumbers(2);
      losses = [];
      readers[1] = course = null;
      if (area.value.length >= 200) {
        const model = newModel(SMALL, letters, chance);
        readers[1] = reader(model);
        course = learning(model, encode(model, area.value).tokens, { batch: BATCH, rate: RATE, random: chance });
      }
      open();
    }
    function train() {
      run("train", () => {
        const until = performance.now() + 12;
        do { const loss = course.next().value; if (loss !== null) losses.push(loss); } while (performance.now() < until);
        if (performance.now() - painted > 400) { readers[1].forget(); follow(); }
        return losses.length >= STEPS;
      });
    }
    function paint() {
      painted = performance.now();
      const most = course ? Math.log(readers[1].model.characters.length) : 1, points = thinned(losses, 200), top = Math.ceil(Math.max(most, ...points)), lately = thinned(losses.slice(-20), 1)[0];
      rules.replaceChildren(...Array.from({ length: top + 1 }, (_, y) => e("span.live-rule", { style: `bottom: ${100 * y / top}%` }, e("span", {}, String(y)))));
      line.setAttribute("points", points.map((y, i) => `${(i / Math.max(1, points.length - 1)).toFixed(4)},${(1 - y / top).toFixed(4)}`).join(" "));
      last.textContent = count(losses.length);
      const told = !course ? ["At least 200 characters, please."] : lately === undefined ? [`${count(area.value.length)} characters, ${readers[1].model.characters.length} of them different. A uniform guess has a loss of ${fixed(most, 2)}.`]
        : [`Step ${count(losses.length)}: loss `, e("strong", {}, fixed(lately, 2)), `. A uniform guess has ${fixed(most, 2)}.`];
      says.say(activity === "train" ? go : null, ...told);
      sample.textContent = course && losses.length ? continued() : "";
      table.refresh();
    }
    /** What the small model would write now. */
    function continued() {
      const { model } = readers[1], one = reader(model), tokens = encode(model, text()).tokens.slice(-8), luck = randomNumbers(3);
      for (let n = 0; tokens.length && n < 90; n++) { one.follow(tokens, true); tokens.push(draw(shares(one.seen().at(-1).logits, settings()), luck())); }
      return tokens.map((token) => model.characters[token]).join("");
    }
    return { node, begin, paint, buttons() { go.textContent = activity === "train" ? "Pause" : losses.length ? "Train on" : "Train"; go.disabled = !course || losses.length >= STEPS; again.disabled = !losses.length; } };
  }

  /** The text, how the next character is drawn, and what it costs. */
  function write() {
    const area = e("textarea.live-area", { rows: 4, "aria-label": "Text", spellcheck: "false", maxlength: LONGEST, oninput: () => { stop(); put("text", area.value); } });
    const go = button("Write", () => (activity === "write" ? stop() : start())), one = button("One character", () => { stop(); put("text", grown(text())); }), clear = button("Start again", () => { stop(); put("text", first); }), first = text();
    go.classList.add("live-first");
    const heat = slider("Temperature", { max: 2, step: 0.1, says: (x) => fixed(x, 1), oninput: (x) => put("temperature", x) });
    const most = slider("Top-k", { max: 40, says: (k) => (k ? String(k) : "all"), oninput: (k) => put("top_k", k) });
    const mass = slider("Top-p", { min: 0.05, max: 1, step: 0.05, says: (p) => (p < 1 ? fixed(p, 2) : "all"), oninput: (p) => put("top_p", p) });
    const caching = toggle("Cache of keys and values", (is) => put("cached", is)), cost = readout(), speed = e("p.live-news"), says = readout(), strange = readout();
    const lines = Array.from({ length: LISTED }, () => ({ name: e("span.live-bar-name"), bar: bar(), number: e("span.live-number"), whole: e("li") }));
    lines.forEach((line) => line.whole.append(line.name, line.bar.node, line.number));
    const table = numbers("All probabilities as a table", () => { const { places, parts } = odds(); return { head: ["character", "probability"], rows: places.map((place, n) => [name(place), fixed(parts[n], 4)]) }; });
    const node = e("div.live-desk", {}, area, strange.node, e("div.live-player", {}, go, one, clear), e("div.live-halves", {},
      e("div.live-panel", {}, e("span.live-panel-name", {}, "The next character"), e("ol.live-bars", {}, ...lines.map(({ whole }) => whole)), says.node),
      e("div.live-side", {}, heat.node, most.node, mass.node, e("div.live-controls", {}, caching.node), cost.node, speed)), table.node);
    const name = (place) => visible(now().model.characters[place]);
    const odds = () => { const { places, shares: parts } = shares(now().seen().at(-1)?.logits ?? new Float32Array(now().model.characters.length), settings()); return { places, parts }; };
    let spent = 0, written = 0, began = 0, operations = 0;

    /** Read the text; what that took is remembered until there is something new. */
    function take(text) {
      const { tokens, unknown } = encode(now().model, text), begin = performance.now(), took = now().follow(tokens, get("cached") !== false);
      spent += performance.now() - begin;
      if (took) operations = took;
      return unknown;
    }
    /** The text with one more character, which has been read. */
    function grown(text) {
      const { places, parts } = odds(), longer = text + now().model.characters[draw({ places, shares: parts }, random())];
      take(longer);
      written += 1;
      return longer;
    }
    function start() {
      [spent, written, began] = [0, 0, performance.now()];
      run("write", () => {
        const until = performance.now() + 12;
        const done = (text) => written >= AT_ONCE || text.length >= LONGEST;
        let longer = text();
        do longer = grown(longer); while (!done(longer) && performance.now() < until && written < PACE * (performance.now() - began));
        put("text", longer);
        return done(longer);
      });
    }
    function follow() {
      const unknown = take(text()), { length } = now().window();
      if (area.value !== text()) { area.value = text(); area.scrollTop = area.scrollHeight; }
      strange.say(null, unknown.length ? `The model has never read ${unknown.map((one) => `“${visible(one)}”`).join(", ")} and leaves it out.` : "");
      if (activity === "write") speed.textContent = `${fixed(1000 * written / (performance.now() - began), 0)} characters per second; one takes ${fixed(spent / written, 1)} ms to compute.`;
      cost.say(go, e("strong.live-amount", {}, million(operations)), "operations for what was read last. The last character takes ", million(length ? operationsAt(now().model, length - 1) : 0), " with the cache and ", million(without(now().model, length)), " without it.");
      paint();
    }
    function paint() {
      const { places, parts } = odds(), kept = parts.filter((part) => part > 0).length, { temperature, topK, topP } = settings(), { model, window } = now();
      heat.set(temperature);
      most.set(topK);
      mass.set(topP);
      caching.set(get("cached") !== false);
      lines.forEach((line, n) => {
        line.whole.hidden = n >= places.length;
        if (line.whole.hidden) return;
        line.name.textContent = name(places[n]);
        line.bar.set(parts[n]);
        line.number.textContent = fixed(parts[n], 3);
      });
      const { length } = window();
      if (!activity) says.say(null, length ? `${plural(length, "token")} of at most ${model.config.max_len} in the window. ${kept} of ${model.characters.length} characters may be drawn.` : "There is nothing to read yet: write a character.");
      table.refresh();
    }
    return { node, follow, paint, open: () => { speed.textContent = ""; }, buttons() { go.textContent = activity === "write" ? "Pause" : "Write"; for (const key of [go, one]) key.disabled = !now()?.window().length; } };
  }

  /** The weights of every head, and the map of one. */
  function look() {
    const tiles = e("div"), place = e("div.live-place"), most = e("span");
    const table = numbers("All weights of this head as a table", () => ({ head: ["reads ↓", ...(shape.columns ?? shape.rows).map(visible)], rows: shape.weights(head()).map((row, i) => [visible(shape.rows[i]), ...row.map(weight)]) }));
    const node = e("div.live-desk", {}, e("span.live-panel-name", {}, "What each head reads, layer by layer"), tiles, place,
      e("p.live-scale", {}, "0", e("span.live-ramp", { "aria-hidden": "true" }), most, e("span.live-note", {}, `The last ${MAPPED} characters. A row reads, a column is read; “…” is everything before.`), " ", e("span.live-hint", {}, "Point at a cell or a character; a click keeps it.")), table.node);
    const inside = (h) => shape.weights(h).map((row) => row.slice(shape.columns ? 1 : 0));          // without “…”, which would outshine the rest
    const head = () => index("head", heads()), heads = () => now().model.config.n_layers * now().model.config.n_heads;
    const row = () => (get("row") == null ? shape.rows.length - 1 : index("row", shape.rows.length));
    let shape, matrix, map, pick, thumbs, laid;       // of the text that is shown

    function open() {
      const names = Array.from({ length: heads() }, (_, n) => `${Math.floor(n / now().model.config.n_heads) + 1}.${n % now().model.config.n_heads + 1}`);
      pick = choice("Layer and head", names, (h) => put("head", h), { named: false });
      thumbs = pick.chips.map((chip) => { const thumb = thumbnail(); chip.lastChild.before(thumb.node); return thumb; });
      pick.node.classList.add("live-tiles", "live-by-layer");
      pick.node.style.setProperty("--heads", now().model.config.n_heads);
      tiles.replaceChildren(pick.node);
      laid = null;
    }
    function paint() {
      const next = lastMap(now().model, now().window(), now().seen());
      node.hidden = !next.rows.length;
      if (node.hidden) return;
      shape = next;
      thumbs.forEach((thumb, h) => { const own = inside(h); thumb.set(own, largest(own.flat())); });
      choose();
    }
    /** The map of the chosen head: laid out again for other characters, painted again for other weights. */
    function choose() {
      const top = Math.min(1000, 100 * Math.ceil(largest(inside(head()).flat()) / 100)), label = JSON.stringify([shape.rows, shape.columns, top]);
      matrix = shape.weights(head());
      if (label !== laid) map = lay(place, shape, top, { get, put, row, weights: () => matrix });
      laid = label;
      most.textContent = weight(top);
      pick.set(head());
      map.paint();
      table.refresh();
    }
    return { node, open, paint, choose: () => map && !node.hidden && choose(), settle: () => map && !node.hidden && map.settle() };
  }

  let mapped = 0;
  function follow() {
    if (!now()) return;
    desk.follow();
    if (activity !== "write" || performance.now() - mapped > 300) { mapped = performance.now(); map.paint(); }
    if (shown() === 1 && activity !== "write") school.paint();
  }
  function open() {
    pickModel.set(shown());
    gate.hidden = shown() === 1 || Boolean(readers[0]);
    school.node.hidden = shown() === 0;
    desk.node.hidden = map.node.hidden = !now();
    if (!gate.hidden) early.paint();
    if (shown() === 1 && !now()) school.paint();
    if (now()) { desk.open(); map.open(); follow(); }
    buttons();
  }
  on("text", () => { if (get("row") != null) put("row", null); if (get("column") != null) put("column", null); follow(); buttons(); });
  on("temperature top_k top_p", () => now() && desk.paint());
  on("cached", () => { stop(); now()?.forget(); desk.open(); follow(); });
  on("head", () => now() && map.choose());
  on("row column", () => (now() ? map : early).settle());
  on("shown", open);
  school.begin();
}

export default figure("page_transformer", ["model", "learn"], show);
