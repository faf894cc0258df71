// Who may read whom, while a text grows by one token after the other.
// State: tokens; source (tokens that are there from the start); names (of the masks), masks[mask][row] as a string of 0 and 1, for the
// tokens or for source and tokens; shown (tokens so far), row (chosen; the source's rows count back from -1).

import { button, clamp, count, e, figure, grid, numbers, plural, readout, tint, visible } from "./lib.js";

/** Of the first n tokens: pairs, pairs that the last token added, and earlier tokens that now read another one. */
export function growth(mask, n) {
  const pairs = (size) => mask.slice(0, size).reduce((sum, row) => sum + [...row.slice(0, size)].filter((bit) => bit === "1").length, 0);
  const changed = mask.slice(0, n - 1).filter((row) => row[n - 1] === "1").length;
  return { pairs: pairs(n), added: pairs(n) - pairs(n - 1), changed };
}

export function check(tokens, names, masks, source = []) {
  const sizes = [...new Set([tokens.length, source.length + tokens.length])];
  if (!tokens.length || !names.length) throw new RangeError("there are no tokens or no masks");
  if (sizes.at(-1) > 24) throw new RangeError(`${count(sizes.at(-1))} tokens are too many to read; the most is 24`);
  if (masks.length !== names.length) throw new RangeError(`there are ${masks.length} masks for ${names.length} names`);
  masks.forEach((mask, n) => {
    const wrong = mask.find((row) => row.length !== mask.length || /[^01]/.test(row));
    if (!sizes.includes(mask.length) || wrong !== undefined)
      throw new RangeError(`the mask “${names[n]}” must be ${sizes.map((size) => `${size} × ${size}`).join(" or ")} zeros and ones, got ${mask.length} rows${wrong === undefined ? "" : `, one is “${wrong}”`}`);
  });
}

/** What the newest token changed, in words. */
export function news(mask, tokens, n) {
  const { added, changed } = growth(mask, n);
  const before = n === 1 ? "" : !changed ? " No earlier row changes." : changed === n - 1 ? " Every earlier row changes too."
    : ` ${changed} of the ${n - 1} earlier rows ${changed === 1 ? "changes" : "change"} too.`;
  return `“${tokens[n - 1]}” brings ${plural(added, "new pair")}.${before}`;
}

function draw({ body, data: { tokens: texts, source: given, names, masks }, get, put, on }) {
  check(texts, names, masks, given);
  const tokens = texts.map(visible), source = given.map(visible);
  const shown = () => clamp(get("shown") | 0, 1, tokens.length);
  const row = () => (get("row") == null ? shown() - 1 : clamp(get("row") | 0, -source.length, shown() - 1));
  let look = null;

  const word = (token) => e("span.live-word", {}, token), words = tokens.map(word);
  const text = e("p.live-text", {}, ...words, e("span.live-caret", { "aria-hidden": "true" }));
  if (source.length) {
    text.prepend(e("span.live-label", {}, "target "));
    body.append(e("p.live-text", {}, e("span.live-label", {}, "source "), ...source.map(word)));
  }
  const write = button("Generate", () => { put("row", null); put("shown", shown() < tokens.length ? shown() + 1 : 1); });
  write.classList.add("live-first");
  const back = button("Take one back", () => { put("row", null); put("shown", shown() - 1); });
  const says = readout();
  const panels = names.map((name, m) => {
    const before = masks[m].length - tokens.length, all = [...source.slice(0, before), ...tokens];
    const matrix = grid({ label: `${name}: a row for each token that reads`, corner: "reads", rows: all, columns: all, room: 5,
      onlook: (to) => { look = to && to[0] < before + shown() && [to[0] - before, (to[1] ?? NaN) - before]; show(); },
      onchoose: ([i]) => { look = null; put("row", Math.min(i - before, shown() - 1)); } });
    const total = e("p.live-news");
    if (before) for (const [i, row] of matrix.cells.entries()) for (const [j, cell] of row.entries()) {
      cell.classList.toggle("live-under", i === before);
      cell.classList.toggle("live-after", j === before);
    }
    return { mask: masks[m], before, all, ...matrix, total, whole: e("div.live-panel", {}, e("p.live-panel-name", {}, name), matrix.node, total) };
  });
  const table = numbers("Who may read how many, as a table", () => ({ head: ["tokens so far", ...names.flatMap((name) => [`${name}: pairs`, "new", "earlier rows changed"])],
    rows: tokens.slice(0, shown()).map((token, n) => [`${n + 1} ${token}`, ...panels.flatMap(({ mask, before }) => Object.values(growth(mask, before + n + 1)).map(count))]) }));
  const pair = e("div.live-pair", {}, ...panels.map(({ whole }) => whole));
  body.append(text, e("div.live-controls", {}, write, back, says.node), pair,
    e("p.live-scale", {}, "A row reads the columns with a ✓. Orange is what the newest token brought.", source.length ? " A thick line parts the source from the target." : ""), table.node);

  function paint() {
    const n = shown();
    words.forEach((word, i) => { word.classList.toggle("live-later", i >= n); word.classList.toggle("live-new", i === n - 1); word.setAttribute("aria-hidden", String(i >= n)); });
    write.textContent = n < tokens.length ? "Generate" : "Start again";
    back.disabled = n === 1;
    for (const { mask, before, all, cells, names: labels, heads, total } of panels) {
      const size = before + n;
      cells.forEach((row, i) => row.forEach((cell, j) => {
        const there = Math.max(i, j) < size, open = mask[i][j] === "1";
        tint(cell, there && open ? 1 : 0, there ? (open ? "reads" : "may not read") : "not written yet", there ? (open ? "✓" : "–") : "");
        cell.classList.toggle("live-later", !there);
        cell.classList.toggle("live-dark", there && open);
        cell.classList.toggle("live-new", there && open && Math.max(i, j) === size - 1);
      }));
      labels.forEach((label, i) => label.classList.toggle("live-later", i >= size));
      heads.forEach((label, j) => label.classList.toggle("live-later", j >= size));
      total.replaceChildren(e("span.live-swatch", { "aria-hidden": "true" }), `${news(mask, all, size)} ${plural(growth(mask, size).pairs, "pair")} in all.`);
    }
    table.refresh();
    settle();
  }
  function settle() {
    panels.forEach(({ before, set }) => set([before + row(), before + row()]));
    show();
  }
  function show() {
    const i = look ? look[0] : row();
    panels.forEach(({ mask, before, mark, cells }) => {
      mark([before + i, before + (look?.[1] ?? NaN)]);
      cells.forEach((row, a) => row.forEach((cell, b) => cell.classList.toggle("live-used", a === before + i && b < before + shown() && mask[a][b] === "1")));
    });
    const reads = panels.map(({ mask, before }, m) => [mask[before + i], names[m], before + shown()]).filter(([bits]) => bits)
      .map(([bits, name, size]) => `${name} ${[...bits.slice(0, size)].filter((bit) => bit === "1").length}`);
    const with_ = source.length ? ` and ${plural(source.length, "source token")}` : "";
    says.say(pair, `Of ${plural(shown(), "token")}${with_}, “${i < 0 ? source.at(i) : tokens[i]}” may read: ${reads.join(", ")}.`);
  }
  on("shown", paint);
  on("row", settle);
  paint();
}

export default figure("mask_growth", ["tokens", "source", "names", "masks"], draw);
