// Who reads whom, in one or several heads: a heat map, and what the chosen token reads.
// State: rows, columns (tokens), heads (names), weights[head][row][column] in thousandths; head, row, column (chosen).

import { choice, clamp, count, e, expect, figure, grid, numbers, readout, tint, visible } from "./lib.js";

export function check({ rows, columns, heads, weights }) {
  if (!rows.length || !columns.length) throw new RangeError("there are no tokens");
  if (rows.length > 64 || columns.length > 64)
    throw new RangeError(`${count(rows.length)} × ${count(columns.length)} cells are too many to tell apart; the most is 64 × 64`);
  if (weights.length !== heads.length) throw new RangeError(`there are ${weights.length} matrices of weights for ${heads.length} heads`);
  weights.forEach((matrix, h) => expect(`the weights of “${heads[h]}”`, matrix, rows.length, columns.length));
}

/** The places of the `most` largest numbers, largest first; among equals the first comes first. */
export const strongest = (row, most) => row.map((_, j) => j).sort((a, b) => row[b] - row[a] || a - b).slice(0, most);
export const weight = (thousandths) => (thousandths / 1000).toFixed(3);

function draw({ body, get, put, on }) {
  const [heads, weights] = [get("heads"), get("weights")];
  check({ rows: get("rows"), columns: get("columns"), heads, weights });
  const [rows, columns] = [get("rows").map(visible), get("columns").map(visible)];
  const same = get("rows").join("\n") === get("columns").join("\n");
  const top = Math.max(...weights.flat(2)) || 1;
  const listed = Math.min(6, columns.length);
  const head = () => clamp(get("head") | 0, 0, heads.length - 1);
  const row = () => clamp(get("row") | 0, 0, rows.length - 1);
  const column = () => (get("column") == null ? strongest(weights[head()][row()], 1)[0] : clamp(get("column") | 0, 0, columns.length - 1));
  let look = null;                                    // where the pointer is

  const pickHead = choice("Head", heads, (h) => put("head", h));
  const pickToken = choice("Reader", rows, (i) => { put("column", null); put("row", i); });
  const map = grid({ label: "Attention weights: a row for each token that reads, a column for each token that is read",
    corner: "reads", rows, columns, onlook: (to) => { look = to; show(); },
    onchoose: ([i, j]) => { look = null; put("row", i); put("column", j); } });
  const title = e("p.live-title"), says = readout(), amount = e("strong.live-amount");
  const bars = Array.from({ length: listed }, () => ({ name: e("span.live-bar-name"), bar: e("span.live-bar"), number: e("span.live-number") }));
  const rest = e("li.live-rest");
  const list = e("ol.live-bars", {}, ...bars.map(({ name, bar, number }) => e("li", {}, name, e("span.live-track", { "aria-hidden": "true" }, bar), number)), ...(listed < columns.length ? [rest] : []));
  const table = numbers("All weights of this head as a table", () => ({ head: ["reads ↓", ...columns],
    rows: rows.map((name, i) => [name, ...weights[head()][i].map(weight)]) }));
  const scale = e("p.live-scale", {}, "0", e("span.live-ramp", { "aria-hidden": "true" }), weight(top), e("span.live-note", {}, "A row reads, a column is read."), " ", e("span.live-hint", {}, "Point at a cell or a word; a click keeps it."));

  if (heads.length > 1) body.append(pickHead.node);
  body.append(pickToken.node, e("div.live-split", {}, map.node, e("div.live-side", {}, says.node, title, list)), scale, table.node);

  function paint() {
    map.cells.forEach((cells, i) => cells.forEach((cell, j) => tint(cell, weights[head()][i][j] / top, weight(weights[head()][i][j]))));
    pickHead.set(head());
    table.refresh();
    settle();
  }
  function settle() {
    pickToken.set(row());
    map.set([row(), column()]);
    show();
  }
  function show() {
    const i = look ? look[0] : row(), read = weights[head()][i];
    const j = look ? look[1] ?? strongest(read, 1)[0] : column();
    map.mark([i, j]);
    title.textContent = `What “${rows[i]}” reads most`;
    amount.textContent = weight(read[j]);
    says.say(map.node, `“${rows[i]}” reads “${columns[j]}” with weight `, amount);
    const most = strongest(read, listed);
    most.forEach((k, n) => {
      bars[n].name.textContent = columns[k];
      bars[n].number.textContent = weight(read[k]);
      bars[n].bar.style.inlineSize = `${read[k] / 10}%`;
    });
    const others = columns.length - listed;
    rest.textContent = others ? `${others === 1 ? "the other one" : `the other ${others}`}: ${weight(Math.max(0, read.reduce((a, b) => a + b, 0) - most.reduce((a, k) => a + read[k], 0)))}` : "";
    pickToken.chips.forEach((chip, k) => {
      chip.classList.toggle("live-reader", k === i);
      if (same) chip.style.setProperty("--amount", `${Math.round(read[k] / top * 100)}%`);
    });
  }
  pickToken.chips.forEach((chip, i) => {
    chip.addEventListener("pointerenter", () => { look = [i, null]; show(); });
    chip.addEventListener("pointerleave", () => { look = null; show(); });
  });
  on("head", paint);
  on("row column", settle);
  paint();
}

export default figure("attention_map", ["rows", "columns", "heads", "weights"], draw);
