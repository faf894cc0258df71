// Who may read whom, while a text grows by one token after the other.
// State: tokens, names (of the masks), masks[mask][row] as a string of 0 and 1; shown (tokens so far), row (chosen).

import { button, clamp, count, e, figure, grid, numbers, plural, readout, tint, visible } from "./lib.js";

/** Of the first n tokens: pairs, pairs that the last token added, and earlier tokens that now read another one. */
export function growth(mask, n) {
  const pairs = (size) => mask.slice(0, size).reduce((sum, row) => sum + [...row.slice(0, size)].filter((bit) => bit === "1").length, 0);
  const changed = mask.slice(0, n - 1).filter((row) => row[n - 1] === "1").length;
  return { pairs: pairs(n), added: pairs(n) - pairs(n - 1), changed };
}

export function check(tokens, names, masks) {
  if (!tokens.length || !names.length) throw new RangeError("there are no tokens or no masks");
  if (tokens.length > 24) throw new RangeError(`${count(tokens.length)} tokens are too many to read; the most is 24`);
  if (masks.length !== names.length) throw new RangeError(`there are ${masks.length} masks for ${names.length} names`);
  masks.forEach((mask, n) => {
    const wrong = mask.find((row) => row.length !== tokens.length || /[^01]/.test(row));
    if (mask.length !== tokens.length || wrong !== undefined)
      throw new RangeError(`the mask “${names[n]}” must be ${tokens.length} × ${tokens.length} zeros and ones, got ${mask.length} rows${wrong === undefined ? "" : `, one is “${wrong}”`}`);
  });
}

/** What the newest token changed, in words. */
export function news(mask, tokens, n) {
  const { added, changed } = growth(mask, n);
  const before = n === 1 ? "" : !changed ? " No earlier row changes." : changed === n - 1 ? " Every earlier row changes too."
    : ` ${changed} of the ${n - 1} earlier rows ${changed === 1 ? "changes" : "change"} too.`;
  return `“${tokens[n - 1]}” brings ${plural(added, "new pair")}.${before}`;
}

function draw({ body, data: { tokens: texts, names, masks }, get, put, on }) {
  check(texts, names, masks);
  const tokens = texts.map(visible);
  const shown = () => clamp(get("shown") | 0, 1, tokens.length);
  const row = () => (get("row") == null ? shown() - 1 : clamp(get("row") | 0, 0, shown() - 1));
  let look = null;

  const text = e("p.live-text", {});
  const words = tokens.map((token) => e("span.live-word", {}, token));
  text.append(...words, e("span.live-caret", { "aria-hidden": "true" }));
  const write = button("Generate", () => { put("row", null); put("shown", shown() < tokens.length ? shown() + 1 : 1); });
  write.classList.add("live-first");
  const back = button("Take one back", () => { put("row", null); put("shown", shown() - 1); });
  const says = readout();
  const panels = names.map((name, m) => {
    const matrix = grid({ label: `${name}: a row for each token that reads`, corner: "reads", rows: tokens, columns: tokens, room: 5,
      onlook: (to) => { look = to && to[0] < shown() && to; show(); },
      onchoose: ([i]) => { look = null; put("row", Math.min(i, shown() - 1)); } });
    const total = e("p.live-news");
    return { mask: masks[m], ...matrix, total, whole: e("div.live-panel", {}, e("p.live-panel-name", {}, name), matrix.node, total) };
  });
  const table = numbers("Who may read how many, as a table", () => ({ head: ["tokens so far", ...names.flatMap((name) => [`${name}: pairs`, "new", "earlier rows changed"])],
    rows: tokens.slice(0, shown()).map((token, n) => [`${n + 1} ${token}`, ...masks.flatMap((mask) => Object.values(growth(mask, n + 1)).map(count))]) }));
  const pair = e("div.live-pair", {}, ...panels.map(({ whole }) => whole));
  body.append(text, e("div.live-controls", {}, write, back, says.node), pair,
    e("p.live-scale", {}, "A row reads the columns with a ✓. Orange is what the newest token brought."), table.node);

  function paint() {
    const n = shown();
    words.forEach((word, i) => { word.classList.toggle("live-later", i >= n); word.classList.toggle("live-new", i === n - 1); word.setAttribute("aria-hidden", String(i >= n)); });
    write.textContent = n < tokens.length ? "Generate" : "Start again";
    back.disabled = n === 1;
    for (const { mask, cells, names: labels, heads, total } of panels) {
      cells.forEach((row, i) => row.forEach((cell, j) => {
        const there = Math.max(i, j) < n, open = mask[i][j] === "1";
        tint(cell, there && open ? 1 : 0, there ? (open ? "reads" : "may not read") : "not written yet", there ? (open ? "✓" : "–") : "");
        cell.classList.toggle("live-later", !there);
        cell.classList.toggle("live-dark", there && open);
        cell.classList.toggle("live-new", there && open && Math.max(i, j) === n - 1);
      }));
      labels.forEach((label, i) => label.classList.toggle("live-later", i >= n));
      heads.forEach((label, j) => label.classList.toggle("live-later", j >= n));
      total.replaceChildren(e("span.live-swatch", { "aria-hidden": "true" }), `${news(mask, tokens, n)} ${plural(growth(mask, n).pairs, "pair")} in all.`);
    }
    table.refresh();
    settle();
  }
  function settle() {
    panels.forEach(({ set }) => set([row(), row()]));
    show();
  }
  function show() {
    const i = look ? look[0] : row();
    panels.forEach(({ mask, mark, cells }) => {
      mark([i, look?.[1] ?? -1]);
      cells.forEach((row, a) => row.forEach((cell, b) => cell.classList.toggle("live-used", a === i && b < shown() && mask[a][b] === "1")));
    });
    const reads = panels.map(({ mask }, m) => `${names[m]} ${[...mask[i].slice(0, shown())].filter((bit) => bit === "1").length}`);
    says.say(pair, `Of ${plural(shown(), "token")}, “${tokens[i]}” may read: ${reads.join(", ")}.`);
  }
  on("shown", paint);
  on("row", settle);
  paint();
}

export default figure("mask_growth", ["tokens", "names", "masks"], draw);
