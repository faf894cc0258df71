// Attention tile by tile: which part of the matrix is computed now, what lies in fast memory, and what has been moved.
// State: length (tokens), width (of a head), causal; rows, columns (of a tile), step (tiles done).

import { calm, clamp, count, e, figure, numbers, player, plural, readout, slider } from "./lib.js";

/** The tiles in the order of the loop, [first query, end, first key, end]; of a causal matrix those that hold a pair that may be read. */
export function tiles(length, rows, columns, causal) {
  const found = [];
  for (let i = 0; i < length; i += rows)
    for (let j = 0; j < length; j += columns) {
      const end = Math.min(i + rows, length);
      if (!causal || j < end) found.push([i, end, j, Math.min(j + columns, length)]);
    }
  return found;
}
/** Numbers that were moved for the first `done` tiles: queries once for each row of tiles, keys and values once for each tile, outputs at a row's end. */
export function moved(walk, done, width) {
  let [read, written] = [0, 0];
  walk.slice(0, done).forEach(([i, end, j, stop], n) => {
    if (!n || walk[n - 1][0] !== i) read += (end - i) * width;
    read += 2 * (stop - j) * width;
    if (n + 1 === walk.length || walk[n + 1][0] !== i) written += (end - i) * width;
  });
  return { read, written };
}
/** The plain algorithm: queries, keys, values and outputs once; the matrix is written and read as scores and once more as weights. */
export const plain = (length, width) => 4 * length * width + 4 * length * length;
/** Numbers that lie in fast memory at once: a tile of scores, its queries, keys, values and outputs, and two numbers for each query. */
export const held = (rows, columns, width) => rows * columns + 2 * rows * width + 2 * columns * width + 2 * rows;

export function check({ length, width }) {
  if (!(Number.isInteger(length) && length >= 2 && length <= 32)) throw new RangeError(`length must lie between 2 and 32, got ${length}`);
  if (!(Number.isInteger(width) && width >= 1 && width <= 1024)) throw new RangeError(`width must lie between 1 and 1,024, got ${width}`);
}

function draw({ body, data, get, put, on, later }) {
  check(data);
  const { length, width, causal } = data;
  const side = (key) => clamp(get(key) | 0, 1, length);
  const walk = () => tiles(length, side("rows"), side("columns"), causal), at = () => clamp(get("step") | 0, 0, walk().length);

  const tall = slider("Queries in a tile", { min: 1, max: length, says: count, oninput: (n) => { play.stop(); put("step", 0); put("rows", n); } });
  const wide = slider("Keys in a tile", { min: 1, max: length, says: count, oninput: (n) => { play.stop(); put("step", 0); put("columns", n); } });
  const play = player({ last: () => walk().length, at, go: (n) => put("step", n), pace: () => ({ wait: calm() ? 1200 : clamp(8000 / walk().length, 60, 900), stride: calm() ? Math.ceil(walk().length / 8) : 1 }), later });
  const map = e("svg", { viewBox: `-0.1 -0.1 ${length + 0.2} ${length + 0.2}` }), square = e("div.live-tile-map", { "aria-hidden": "true" }, map);
  const title = e("p.live-title"), facts = e("p.live-facts"), says = readout();
  const sides = [...new Set([1, 2, 4, 8, 16, 32].filter((n) => n < length).concat(length))];
  const table = numbers("Other tiles, as a table", () => ({ head: ["tile", "tiles", "numbers in fast memory", "numbers moved", "of the plain algorithm's"],
    rows: sides.map((n) => { const all = tiles(length, n, n, causal), { read, written } = moved(all, all.length, width);
      return [`${n} × ${n}`, count(all.length), count(held(n, n, width)), count(read + written), `${Math.round(100 * (read + written) / plain(length, width))} %`]; }) }));
  body.append(e("div.live-controls", {}, tall.node, wide.node), e("div.live-controls", {}, play.node),
    e("div.live-split", {}, e("div.live-panel", {}, e("p.live-panel-name", {}, "Scores: queries down, keys across"), square,
      e("p.live-scale", { "aria-hidden": "true" }, ...[["live-beats", "in fast memory"], ["live-done", "done, and thrown away"], ["live-waits", causal ? "to come, or never read" : "to come"]].flatMap(([kind, text]) => [e(`i.live-key.live-beat.${kind}`), text]))),
    e("div.live-box.live-side", {}, title, facts, says.node)), table.node);

  function paint() {
    const all = walk(), n = at(), now = n ? all[n - 1] : null, { read, written } = moved(all, n, width), whole = moved(all, all.length, width);
    tall.set(side("rows"));
    wide.set(side("columns"));
    map.replaceChildren(e("rect.live-tile-edge", { x: 0, y: 0, width: length, height: length }),
      ...all.map(([i, end, j, stop], k) => e(`rect.live-tile.${k === n - 1 ? "live-tile-now" : k < n - 1 ? "live-tile-done" : "live-tile-later"}`, { x: j, y: i, width: stop - j, height: end - i })),
      ...(causal ? [e("path.live-stairs", { d: Array.from({ length }, (_, i) => `H ${i + 1} V ${i + 1}`).reduce((path, part) => `${path} ${part}`, "M 0 0") })] : []));
    title.textContent = `${plural(n, "tile")} of ${count(all.length)}`;
    const saved = causal ? Math.ceil(length / side("rows")) * Math.ceil(length / side("columns")) - all.length : 0;
    facts.replaceChildren(...[["read so far", count(read)], ["written so far", count(written)], ["moved at the end", count(whole.read + whole.written)], ["plain algorithm", count(plain(length, width))], ["in fast memory", count(held(side("rows"), side("columns"), width))],
      ...(causal ? [["tiles left out", count(saved)]] : [])].flatMap(([name, value]) => [e("span", {}, name), e("strong", {}, value)]));
    says.say(null, now ? `Queries ${now[0] + 1} to ${now[1]} read keys ${now[2] + 1} to ${now[3]}${n === all.length || all[n][0] !== now[0] ? "; their outputs are complete and are written" : ""}.` : "Nothing has been moved yet. All counts are numbers, not bytes.");
    table.refresh();
  }
  on("rows columns step", paint);
  paint();
}

export default figure("tile_walk", ["length", "width", "causal"], draw);
