// Who reads whom, in one or several heads and sentences: a heat map, and what the chosen token reads.
// State: heads (names); sentences, each {name, rows, columns, weights} with tokens that read, tokens that are read (null: the
// same) and weights[head][row][column] in thousandths; sentence, head, row, column (chosen; column null: what is read most).

import { bar, choice, clamp, count, e, expect, figure, grid, largest, numbers, readout, thumbnail, tint, total, visible } from "./lib.js";

export function check(heads, sentences) {
  if (!sentences.length || !heads.length) throw new RangeError("there are no sentences or no heads");
  for (const { name, rows, columns, weights } of sentences) {
    const read = columns ?? rows, of = name ? ` in “${name}”` : "";
    if (!rows.length || !read.length) throw new RangeError(`there are no tokens${of}`);
    if (rows.length > 64 || read.length > 64)
      throw new RangeError(`${count(rows.length)} × ${count(read.length)} cells are too many to tell apart; the most is 64 × 64`);
    if (weights.length !== heads.length) throw new RangeError(`there are ${weights.length} matrices of weights for ${heads.length} heads${of}`);
    weights.forEach((matrix, h) => expect(`the weights of “${heads[h]}”${of}`, matrix, rows.length, read.length));
  }
}

/** The places of the `most` largest numbers, largest first; among equals the first comes first. */
export const strongest = (row, most) => row.map((_, j) => j).sort((a, b) => row[b] - row[a] || a - b).slice(0, most);
export const weight = (thousandths) => (thousandths / 1000).toFixed(3);
/** Where the token at `row` stands in other tokens: at the same place, else where it comes first, else as near as can be. */
export function follow(row, from, to) {
  const there = to[row] === from[row] ? row : to.indexOf(from[row]);
  return there < 0 ? Math.min(row, to.length - 1) : there;
}

function draw({ body, data: { heads, sentences }, get, index, put, on }) {
  check(heads, sentences);
  const top = largest(sentences.map(({ weights }) => largest(weights.flat(2))));
  const sentence = () => sentences[index("sentence", sentences.length)];
  const weights = () => sentence().weights[index("head", heads.length)];
  const row = () => index("row", sentence().rows.length);

  const pickSentence = choice("Sentence", sentences.map(({ name }) => name), (n) => {
    const there = follow(row(), sentence().rows, sentences[n].rows);
    put("column", null);
    put("sentence", n);
    put("row", there);
  });
  const pickHead = choice("Head", heads, (h) => put("head", h));
  const thumbs = pickHead.chips.map((chip) => { const thumb = thumbnail(); chip.lastChild.before(thumb.node); return thumb; });
  pickHead.node.classList.toggle("live-tiles", heads.length > 6);
  const table = numbers("All weights of this head as a table", () => {
    const [rows, columns] = [sentence().rows, sentence().columns ?? sentence().rows].map((tokens) => tokens.map(visible));
    return { head: ["reads ↓", ...columns], rows: rows.map((name, i) => [name, ...weights()[i].map(weight)]) };
  });
  const scale = e("p.live-scale", {}, "0", e("span.live-ramp", { "aria-hidden": "true" }), weight(top), e("span.live-note", {}, "A row reads, a column is read."), " ", e("span.live-hint", {}, "Point at a cell or a word; a click keeps it."));
  const place = e("div.live-place");
  if (sentences.length > 1) body.append(pickSentence.node);
  if (heads.length > 1) body.append(pickHead.node);
  body.append(place, scale, table.node);

  let map;                                            // of the sentence that is shown: {paint, settle}
  function open() {
    map = lay(place, sentence(), top, { get, put, row, weights });
    pickSentence.set(sentences.indexOf(sentence()));
    thumbs.forEach((thumb, h) => thumb.set(sentence().weights[h], top));
    paint();
  }
  function paint() {
    pickHead.set(index("head", heads.length));
    table.refresh();
    map.paint();
  }
  on("sentence", open);
  on("head", paint);
  on("row column", () => map.settle());
  open();
}

/** Lay out the map of one sentence in `place`; `paint` shows other weights, `settle` another choice. */
function lay(place, { rows: readers, columns: read }, top, { get, put, row, weights }) {
  const [rows, columns] = [readers, read ?? readers].map((tokens) => tokens.map(visible));
  const listed = Math.min(6, columns.length), others = columns.length - listed;
  const column = () => (get("column") == null ? strongest(weights()[row()], 1)[0] : clamp(get("column") | 0, 0, columns.length - 1));
  let look = null;                                    // where the pointer is
  const looking = (to) => { look = to; show(); };

  const pick = choice("Reader", rows, (i) => { put("column", null); put("row", i); });
  const map = grid({ label: "Attention weights: a row for each token that reads, a column for each token that is read",
    corner: "reads", rows, columns, onlook: looking, onchoose: ([i, j]) => { look = null; put("row", i); put("column", j); } });
  const title = e("p.live-title"), says = readout(), amount = e("strong.live-amount"), rest = e("li.live-rest");
  const lines = Array.from({ length: listed }, () => ({ name: e("span.live-bar-name"), bar: bar(), number: e("span.live-number") }));
  const list = e("ol.live-bars", {}, ...lines.map((line) => e("li", {}, line.name, line.bar.node, line.number)), ...(others ? [rest] : []));
  place.replaceChildren(pick.node, e("div.live-split", {}, map.node, e("div.live-side", {}, says.node, title, list)));
  pick.chips.forEach((chip, i) => {
    chip.addEventListener("pointerenter", () => looking([i, null]));
    chip.addEventListener("pointerleave", () => looking(null));
  });

  function paint() {
    map.cells.forEach((cells, i) => cells.forEach((cell, j) => tint(cell, weights()[i][j] / top, weight(weights()[i][j]))));
    settle();
  }
  function settle() {
    pick.set(row());
    map.set([row(), column()]);
    show();
  }
  function show() {
    const i = look ? look[0] : row(), amounts = weights()[i], most = strongest(amounts, listed);
    const j = look ? look[1] ?? most[0] : column();
    map.mark([i, j]);
    title.textContent = `What “${rows[i]}” reads most`;
    amount.textContent = weight(amounts[j]);
    says.say(map.node, `“${rows[i]}” reads “${columns[j]}” with weight `, amount);
    lines.forEach((line, n) => {
      line.name.textContent = columns[most[n]];
      line.number.textContent = weight(amounts[most[n]]);
      line.bar.set(amounts[most[n]] / 1000);
    });
    rest.textContent = `the other ${others === 1 ? "one" : others}: ${weight(Math.max(0, total(amounts) - total(most.map((k) => amounts[k]))))}`;
    pick.chips.forEach((chip, k) => {
      chip.classList.toggle("live-reader", k === i);
      if (!read) chip.style.setProperty("--amount", `${Math.round(amounts[k] / top * 100)}%`);
    });
  }
  return { paint, settle };
}

export default figure("attention_map", ["heads", "sentences"], draw);
