// A map of attention weights, and what the chosen token reads: what the figures of attention share.
// weights()[row][column] are in thousandths; row() is the reader; `get` and `put` hold what is chosen.

import { bar, choice, clamp, e, grid, readout, tint, total, visible } from "./lib.js";

/** The places of the `most` largest numbers, largest first; among equals the first comes first. */
export const strongest = (row, most) => row.map((_, j) => j).sort((a, b) => row[b] - row[a] || a - b).slice(0, most);
export const weight = (thousandths) => (thousandths / 1000).toFixed(3);

/** Lay out the map of one sentence in `place`; `paint` shows other weights, `settle` another choice. */
export function lay(place, { rows: readers, columns: read }, top, { get, put, row, weights, room = 3 }) {
  const [rows, columns] = [readers, read ?? readers].map((tokens) => tokens.map(visible));
  const listed = Math.min(6, columns.length), others = columns.length - listed;
  const column = () => (get("column") == null ? strongest(weights()[row()], 1)[0] : clamp(get("column") | 0, 0, columns.length - 1));
  let look = null;                                    // where the pointer is
  const looking = (to) => { look = to; show(); };

  const pick = choice("Reader", rows, (i) => { put("column", null); put("row", i); });
  const map = grid({ label: "Attention weights: a row for each token that reads, a column for each token that is read",
    corner: "reads", rows, columns, room, onlook: looking, onchoose: ([i, j]) => { look = null; put("row", i); put("column", j); } });
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
