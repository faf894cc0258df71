// Who reads whom, in one or several heads and sentences: a heat map, and what the chosen token reads.
// State: heads (names); sentences, each {name, rows, columns, weights} with tokens that read, tokens that are read (null: the
// same) and weights[head][row][column] in thousandths; name (what the sentences are called); sentence, head, row, column (chosen;
// column null: what is read most).

import { lay, weight } from "./attention_grid.js";
import { choice, count, e, expect, figure, largest, numbers, thumbnail, visible } from "./lib.js";

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

/** Where the token at `row` stands in other tokens: at the same place, else where it comes first, else as near as can be. */
export function follow(row, from, to) {
  const there = to[row] === from[row] ? row : to.indexOf(from[row]);
  return there < 0 ? Math.min(row, to.length - 1) : there;
}

function draw({ body, data: { heads, sentences, name }, get, index, put, on }) {
  check(heads, sentences);
  const top = largest(sentences.map(({ weights }) => largest(weights.flat(2))));
  const sentence = () => sentences[index("sentence", sentences.length)];
  const weights = () => sentence().weights[index("head", heads.length)];
  const row = () => index("row", sentence().rows.length);

  const pickSentence = choice(name, sentences.map(({ name }) => name), (n) => {
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

export default figure("attention_map", ["heads", "sentences", "name"], draw);
