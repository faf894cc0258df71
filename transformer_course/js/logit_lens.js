// The logit lens: what the final norm and the output map make of the residual stream after every layer of the course's GPT.
// State: model (facts); stages (names); first, what is shown until the model is loaded: characters, and cells[stage][place], each the
// likeliest next characters, their probabilities and that of the character which follows (null at the end), in thousandths; text; stage
// and place (null: the last), which are chosen.

import { clamp, count, e, expect, figure, fixed, grid, numbers, readout, slider, tint, visible } from "./lib.js";
import { encode, loader, reader } from "./page_reader.js";
import { predict, shares } from "./transformer.js";

export const LISTED = 5, COLUMNS = 12;

/** What a stage of the stream predicts: [the likeliest characters, their probabilities, that of `next`, a token or undefined]. */
export function guess(model, vector, next) {
  const { places, shares: parts } = shares(predict(model, vector), {}), first = places.slice(0, LISTED);
  return [first.map((place) => model.characters[place]), first.map((_, n) => parts[n]), next === undefined ? null : parts[places.indexOf(next)]];
}

/** The window of columns that holds a place: it moves no further than it must. */
export const scrolled = (from, place, length) => clamp(from, Math.max(0, place - COLUMNS + 1), Math.max(0, Math.min(place, length - COLUMNS)));

export function check({ stages, first: { characters, cells } }) {
  if (stages.length < 2 || !characters.length) throw new RangeError(`there are ${stages.length} stages and ${characters.length} characters; a lens needs 2 and 1`);
  if (cells.length !== stages.length) throw new RangeError(`there are ${cells.length} rows of guesses for ${stages.length} stages`);
  cells.forEach((row, n) => {
    if (row.length !== characters.length) throw new RangeError(`“${stages[n]}” has ${row.length} guesses for ${characters.length} characters`);
    for (const [likely, parts] of row) expect(`the probabilities of “${stages[n]}”`, [parts], 1, [...likely].length);
  });
}

function show({ body, data, get, index, put, on }) {
  check(data);
  const { model: facts, stages, first } = data;
  const early = { characters: first.characters, cell: (stage, place) => { const [likely, parts, next] = first.cells[stage][place]; return [[...likely], parts.map((part) => part / 1000), next == null ? null : next / 1000]; } };
  let now = early, source = null, from = 0, laid = null, map = null;        // what is read, by which reader; the first column; the columns that are drawn
  const text = () => String(get("text") ?? ""), length = () => now.characters.length;
  const place = () => (get("place") == null ? length() - 1 : index("place", length())), stage = () => index("stage", stages.length);

  const gateway = loader(facts, (model) => { source = reader(model); gate.replaceWith(own); follow(); area.focus(); });
  const gate = e("div.live-desk", {}, e("p", {}, `What a GPT of ${count(facts.parameters)} parameters would say next, at each stage, about a text of ${count(first.characters.length)} characters. Load the model, and it reads a text of yours in this page.`),
    e("div.live-controls", {}, gateway.press, gateway.says));
  const area = e("textarea.live-area", { rows: 2, "aria-label": "Text", spellcheck: "false", oninput: () => { put("place", null); put("text", area.value); } });
  const strange = readout(), own = e("div.live-desk", {}, area, strange.node), spot = e("div.live-place"), where = slider("Character", { min: 1, max: 1, says: (n) => `${n} of ${length()}`, oninput: (n) => put("place", n - 1) });
  const title = e("p.live-title"), says = readout();
  const lines = stages.map((name, n) => {
    const guesses = Array.from({ length: LISTED }, () => ({ name: e("span"), number: e("span"), whole: e("span.live-guess") }));
    guesses.forEach((one) => one.whole.append(one.name, one.number));
    return { guesses, whole: e("li", { onclick: () => put("stage", n) }, e("span.live-bar-name", {}, name), ...guesses.map(({ whole }) => whole)) };
  });
  const table = numbers("The likeliest characters as a table", () => ({ head: ["after", ...stages], rows: now.characters.map((one, t) => [visible(one), ...stages.map((_, n) => { const [[likely], [part]] = now.cell(n, t); return `${visible(likely)} ${fixed(part, 3)}`; })]) }));
  const shown = e("div.live-desk", {}, e("span.live-panel-name", {}, "The likeliest next character after each stage"), spot,
    e("p.live-scale", {}, "0", e("span.live-ramp", { "aria-hidden": "true" }), "1", e("span.live-note", {}, "Underlined: what the text goes on with.")),
    e("div.live-controls", {}, where.node), e("div.live-box", {}, title, e("ol.live-bars.live-lens", {}, ...lines.map(({ whole }) => whole)), says.node), table.node);
  const nothing = e("p.live-news", {}, "There is nothing to read yet: write a character.");
  own.append(nothing);
  body.append(gate, shown);

  /** Read the text with the model that was loaded. */
  function follow() {
    if (!source) return;
    const { model } = source, { tokens, unknown } = encode(model, text());
    source.follow(tokens, true);
    const window = source.window(), found = new Map();
    now = { characters: window.map((token) => model.characters[token]), cell(n, t) {
      const key = n * model.config.max_len + t;
      if (!found.has(key)) found.set(key, guess(model, source.seen()[t].stream[n], window[t + 1]));
      return found.get(key);
    } };
    if (area.value !== text()) area.value = text();
    strange.say(null, ...[unknown.length ? `The model has never read ${unknown.map((one) => `“${visible(one)}”`).join(", ")} and leaves it out. ` : "", tokens.length > window.length ? `It reads the last ${count(window.length)} characters; ${count(model.config.max_len)} are the most.` : ""]);
    paint();
  }
  function paint() {
    nothing.hidden = length() > 0;
    shown.hidden = !length();
    if (!length()) return;
    from = scrolled(from, place(), length());
    const columns = now.characters.slice(from, from + COLUMNS).map(visible), label = JSON.stringify(columns);
    if (label !== laid) {
      map = grid({ label: "The likeliest next character: a row for each stage, a column for each character that was read", corner: "after", rows: stages, columns, onchoose: ([i, j]) => { put("stage", i); if (j !== null) put("place", from + j); } });
      map.node.classList.add("live-numbered");
      spot.replaceChildren(map.node);
    }
    laid = label;
    map.cells.forEach((row, i) => row.forEach((cell, j) => {
      const [[likely], [part]] = now.cell(i, from + j);
      tint(cell, part, `${visible(likely)}, ${fixed(part, 3)}`, visible(likely));
      cell.classList.toggle("live-right", likely === now.characters[from + j + 1]);
    }));
    where.input.max = length();
    settle();
    table.refresh();
  }
  function settle() {
    if (!length()) return;
    const t = place(), n = stage(), read = now.characters.slice(Math.max(0, t - 15), t + 1).join(""), next = now.characters[t + 1];
    map.set([n, t - from]);
    where.set(t + 1);
    title.textContent = `After “${t > 15 ? "…" : ""}${visible(read)}”`;
    lines.forEach(({ guesses, whole }, row) => {
      const [likely, parts] = now.cell(row, t);
      whole.classList.toggle("live-now", row === n);
      guesses.forEach((one, k) => {
        one.whole.hidden = k >= likely.length;
        if (one.whole.hidden) return;
        one.name.textContent = visible(likely[k]);
        one.number.textContent = fixed(parts[k], 3);
        one.whole.style.setProperty("--amount", `${Math.round(100 * parts[k])}%`);
        one.whole.classList.toggle("live-right", likely[k] === next);
      });
    });
    const [[likely], [part], share] = now.cell(n, t);
    says.say(map.node, `Read after “${stages[n]}”, the next character would be “${visible(likely)}” with probability `, e("strong", {}, fixed(part, 3)), ". ", share === null ? "The text ends here." : `The text goes on with “${visible(next)}”, which has ${fixed(share, 3)} at this stage and ${fixed(now.cell(stages.length - 1, t)[2], 3)} at the last.`);
  }
  on("text", follow);
  on("place", paint);
  on("stage", settle);
  paint();
}

export default figure("logit_lens", ["model", "stages", "first"], show);
