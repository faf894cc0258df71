// Attention as six steps on numbers that a reader can check: vectors, roles, scores, scaling, weights, outputs.
// State: tokens, x[token][number], projections [query, key, value], each [number][number]; step (0 to 5), row, column.

import { button, clamp, choice, e, expect, figure, fixed, grid, numbers, player, readout, slider, tint, visible, calm } from "./lib.js";

export const product = (a, b) => a.map((row) => b[0].map((_, j) => row.reduce((sum, x, k) => sum + x * b[k][j], 0)));
export const turned = (a) => a[0].map((_, j) => a.map((row) => row[j]));
export function softmax(row) {
  const raised = row.map((x) => Math.exp(x - Math.max(...row)));
  const sum = raised.reduce((a, b) => a + b);
  return raised.map((x) => x / sum);
}

/** Everything that attention computes on the way. */
export function trace(x, [toQuery, toKey, toValue]) {
  const [queries, keys, values] = [toQuery, toKey, toValue].map((matrix) => product(x, matrix));
  const scores = product(queries, turned(keys));
  const scaled = scores.map((row) => row.map((score) => score / Math.sqrt(keys[0].length)));
  const weights = scaled.map(softmax);
  return { vectors: x, queries, keys, values, scores, scaled, weights, outputs: product(weights, values) };
}

export function check(tokens, x, projections) {
  if (!tokens.length || !x[0]?.length) throw new RangeError("there are no tokens or no numbers");
  if (tokens.length > 8 || x[0].length > 8) throw new RangeError(`${tokens.length} tokens with ${x[0].length} numbers are too many to read; the most is 8 and 8`);
  expect("the vectors", x, tokens.length, x[0].length);
  ["query", "key", "value"].forEach((role, n) => expect(`the ${role} projection`, projections[n], x[0].length, projections[n][0]?.length ?? 0));
  if (projections[0][0].length !== projections[1][0].length)
    throw new RangeError(`queries of ${projections[0][0].length} numbers can't be compared with keys of ${projections[1][0].length}`);
}

/** Two digits after the point, one for numbers that would not fit their cell. */
export const short = (x) => fixed(x, Math.abs(x) < 9.995 ? 2 : 1);
const bracket = (x) => (x < 0 ? `(${short(x)})` : short(x));
/** A dot product written out: `0.50 × 1.00 + 2.00 × (−1.00) = −1.50`. */
export const written = (a, b) => `${a.map((x, k) => `${k ? bracket(x) : short(x)} × ${bracket(b[k])}`).join(" + ")} = ${short(a.reduce((sum, x, k) => sum + x * b[k], 0), 2)}`;

// name, the step that computes it, and how one of its numbers comes about: [what it is made of, in words, in numbers]
const PANELS = [
  ["vectors", 0], ["queries", 1], ["keys", 1], ["values", 1], ["scores", 2], ["scaled", 3], ["weights", 4], ["outputs", 5],
];
export const STEPS = ["Vectors", "Three roles", "Compare", "Scale", "Weights", "Mix"];
const SHOWN = ["vectors", "queries", "scores", "scaled", "weights", "outputs"];
export const named = (tokens, panel, i, j) => ["scores", "scaled", "weights"].includes(panel) ? `“${tokens[i]}” with “${tokens[j]}”` : `“${tokens[i]}”, number ${j + 1}`;

/** What happens in a panel at [i, j]: a sentence, the arithmetic, and the cells that it uses. */
export function explain(panel, i, j, all, tokens, projections) {
  const token = `“${tokens[i]}”`, other = `“${tokens[j]}”`, width = all.keys[0].length;
  const row = (name, n, length) => Array.from({ length }, (_, k) => [name, n, k]);
  const d = all.vectors[0].length;
  const roles = { queries: ["query", 0], keys: ["key", 1], values: ["value", 2] };
  if (panel === "vectors") return { says: `Every token is a vector of ${d} numbers. Nothing has been compared yet.`, sum: `number ${j + 1} of ${token} is ${short(all.vectors[i][j])}`, uses: [] };
  if (roles[panel]) {
    const [role, n] = roles[panel], made = turned(projections[n])[j];
    return { says: `Three matrices turn each vector into a query, a key and a value. Number ${j + 1} of the ${role} of ${token} is its vector times column ${j + 1} of the ${role} matrix.`,
      sum: written(all.vectors[i], made), uses: row("vectors", i, d) };
  }
  if (panel === "scores") return { says: `The query of ${token} meets the key of ${other}: multiply number by number, then add.`,
    sum: written(all.queries[i], all.keys[j]), uses: [...row("queries", i, width), ...row("keys", j, width)] };
  if (panel === "scaled") return { says: `Each score is divided by the square root of ${width}, because a key has ${width} numbers.`,
    sum: `${short(all.scores[i][j])} ÷ ${short(Math.sqrt(width))} = ${short(all.scaled[i][j])}`, uses: [["scores", i, j]] };
  if (panel === "weights") {
    const raised = all.scaled[i].map(Math.exp);
    return { says: `Raise e to each score of the row of ${token}, then divide by the sum: the row is positive and sums to 1.`,
      sum: `${short(raised[j])} ÷ (${raised.map((x) => short(x)).join(" + ")}) = ${short(all.weights[i][j])}`, uses: row("scaled", i, tokens.length) };
  }
  return { says: `${token} takes from every token's value as much as its weight says. This is number ${j + 1} of the mix.`,
    sum: written(all.weights[i], turned(all.values)[j]), uses: [...row("weights", i, tokens.length), ...tokens.map((_, n) => ["values", n, j])] };
}

function draw({ body, get, put, on, later }) {
  const tokens = get("tokens").map(visible), projections = get("projections"), first = get("x");
  check(tokens, first, projections);
  let all = trace(first, projections), edited = [clamp(get("row") | 0, 0, tokens.length - 1), 0], look = null;
  const step = () => clamp(get("step") | 0, 0, STEPS.length - 1);
  const width = (panel) => all[panel][0].length;
  const chosen = () => [SHOWN[step()], clamp(get("row") | 0, 0, tokens.length - 1), clamp(get("column") | 0, 0, width(SHOWN[step()]) - 1)];

  const pick = choice("Step", STEPS.map((name, n) => `${n + 1} ${name}`), (n) => { play.stop(); put("step", n); }, { named: false });
  const play = player({ last: () => STEPS.length - 1, at: step, go: (n) => put("step", n), pace: () => ({ wait: calm() ? 4000 : 2500, stride: 1 }), later });
  const panels = PANELS.map(([name, from]) => {
    const square = ["scores", "scaled", "weights"].includes(name);
    const matrix = grid({ label: `${name}: a row for each token`, corner: "token", rows: tokens, room: 5,
      columns: square ? tokens : all[name][0].map((_, k) => String(k + 1)),
      onlook: (to) => { look = to && from <= step() ? [name, to[0], to[1] ?? 0] : null; show(); },
      onchoose: ([i, j]) => {
        look = null;
        if (name === "vectors") edited = [i, j ?? 0];
        put("column", j ?? 0);
        put("row", i);
        if (from <= step() && SHOWN[step()] !== name) look = [name, i, j ?? 0];
        show();
      } });
    matrix.node.classList.add("live-numbered");
    return { name, from, ...matrix, whole: e("div.live-panel", {}, e("p.live-panel-name", {}, name), matrix.node) };
  });
  const flow = e("div.live-panels", {}, ...[[0, 4], [4, 8]].map((part) => e("div.live-flow", {}, ...panels.slice(...part).map(({ whole }) => whole))));
  const says = readout(), sum = e("p.live-sum"), where = e("p.live-title");
  const turn = slider("", { min: -3, max: 3, step: 0.1, says: (value) => fixed(value, 1), oninput: (value) => {
    put("x", get("x").map((row, i) => row.map((old, j) => (i === edited[0] && j === edited[1] ? value : old))));
  } });
  const reset = button("Put back", () => put("x", first));
  const table = numbers("All numbers as a table", () => ({ head: ["matrix", ...tokens],
    rows: PANELS.map(([name]) => [name, ...all[name].map((row) => row.map((x) => fixed(x, 3)).join("  "))]) }));
  body.append(e("div.live-controls", {}, pick.node, play.node), flow,
    e("div.live-box", {}, where, says.node, sum), e("div.live-controls.live-turn", {}, turn.node, reset), table.node);

  function paint() {
    all = trace(get("x"), projections);
    for (const { name, from, cells, whole } of panels) {
      const top = Math.max(...all[name].flat().map(Math.abs)) || 1;
      whole.classList.toggle("live-later", from > step());
      whole.classList.toggle("live-now", from === step());
      cells.forEach((row, i) => row.forEach((cell, j) => tint(cell, all[name][i][j] / top, from > step() ? "not computed yet" : short(all[name][i][j]), short(all[name][i][j]))));
    }
    pick.set(step());
    table.refresh();
    show();
  }
  function show() {
    const [panel, i, j] = look ?? chosen();
    const { says: text, sum: numbers_, uses } = explain(panel, i, j, all, tokens, projections);
    const used = new Set(uses.map(String));
    for (const { name, cells, set, mark } of panels) {
      if (name === panel) { set([i, j]); mark([i, j]); } else mark([-1, -1]);
      cells.forEach((row, a) => row.forEach((cell, b) => {
        cell.classList.toggle("live-used", used.has(String([name, a, b])));
        cell.classList.toggle("live-edited", name === "vectors" && a === edited[0] && b === edited[1]);
      }));
    }
    where.textContent = `Step ${PANELS.find(([name]) => name === panel)[1] + 1} of ${STEPS.length}: ${panel}, ${named(tokens, panel, i, j)}`;
    sum.textContent = numbers_;
    says.say(flow, text);
    turn.name.textContent = `Change number ${edited[1] + 1} of “${tokens[edited[0]]}”`;
    turn.set(get("x")[edited[0]][edited[1]]);
  }
  on("step x", () => { look = null; paint(); });
  on("row column", show);
  paint();
}

export default figure("attention_steps", ["tokens", "projections"], draw);
