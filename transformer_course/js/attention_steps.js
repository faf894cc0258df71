// Attention as six steps on numbers that a reader can check: vectors, roles, scores, scaling, weights, outputs.
// State: tokens, x[token][number], projections [query, key, value], each [number][number]; step (0 to 5), role (0 to 2), row, column.

import { button, calm, choice, clamp, e, expect, figure, fixed, grid, largest, numbers, player, readout, slider, tint, total, visible } from "./lib.js";

export const product = (a, b) => a.map((row) => b[0].map((_, j) => total(row.map((x, k) => x * b[k][j]))));
export const turned = (a) => a[0].map((_, j) => a.map((row) => row[j]));
export function softmax(row) {
  const raised = row.map((x) => Math.exp(x - Math.max(...row)));
  return raised.map((x) => x / total(raised));
}

/** Everything that attention computes on the way, and the matrices that it uses. */
export function trace(x, projections) {
  const [queries, keys, values] = projections.map((matrix) => product(x, matrix));
  const scores = product(queries, turned(keys));
  const scaled = scores.map((row) => row.map((score) => score / Math.sqrt(keys[0].length)));
  const weights = scaled.map(softmax);
  const [query, key, value] = projections;
  return { vectors: x, "query matrix": query, "key matrix": key, "value matrix": value, queries, keys, values, scores, scaled, weights, outputs: product(weights, values) };
}

export function check(tokens, x, projections) {
  if (!tokens.length || !x[0]?.length) throw new RangeError("there are no tokens or no numbers");
  if (tokens.length > 8 || x[0].length > 8) throw new RangeError(`${tokens.length} tokens with ${x[0].length} numbers are too many to read; the most is 8 and 8`);
  expect("the vectors", x, tokens.length, x[0].length);
  ROLES.forEach((role, n) => expect(`the ${role} projection`, projections[n], x[0].length, projections[n][0]?.length ?? 0));
  if (projections[0][0].length !== projections[1][0].length)
    throw new RangeError(`queries of ${projections[0][0].length} numbers can't be compared with keys of ${projections[1][0].length}`);
}

/** Two digits after the point, one for numbers that would not fit their cell. */
export const short = (x) => fixed(x, Math.abs(x) < 9.995 ? 2 : 1);
const bracket = (x) => (x < 0 ? `(${short(x)})` : short(x));
/** A dot product written out: `0.50 × 1.00 + 2.00 × (−1.00) = −1.50`. */
export const written = (a, b) => `${a.map((x, k) => `${k ? bracket(x) : short(x)} × ${bracket(b[k])}`).join(" + ")} = ${short(total(a.map((x, k) => x * b[k])))}`;

const ROLES = ["query", "key", "value"];
// name, formula, the step that computes it, its place: a product stands beside its left factor and under its right one
const PANELS = [
  ["query matrix", "W_Q", 1, 1, 2], ["key matrix", "W_K", 1, 1, 3], ["value matrix", "W_V", 1, 1, 4],
  ["vectors", "x", 0, 2, 1], ["queries", "Q = x W_Q", 1, 2, 2], ["keys", "K = x W_K", 1, 2, 3], ["values", "V = x W_V", 1, 2, 4],
  ["scores", "Q Kᵀ", 2], ["scaled", "÷ √k", 3], ["weights", "softmax", 4], ["outputs", "weights · V", 5],
];
const FROM = Object.fromEntries(PANELS.map(([name, , step]) => [name, step]));
const TOP = 7;                                        // panels above the others
export const STEPS = ["Vectors", "Three roles", "Compare", "Scale", "Weights", "Mix"];
/** The panels that a step reads, and last the one that it makes. */
export const parts = (step, role) => [["vectors"], ["vectors", `${ROLES[role]} matrix`, ["queries", "keys", "values"][role]], ["queries", "keys", "scores"],
  ["scores", "scaled"], ["scaled", "weights"], ["weights", "values", "outputs"]][step];
/** 0, 1 or 2 for a panel of queries, keys or values and for their matrices, else -1. */
const roleOf = (panel) => ["quer", "key", "value"].findIndex((start) => panel.startsWith(start));
const square = (panel) => ["scores", "scaled", "weights"].includes(panel);
export const named = (tokens, panel, i, j) => square(panel) ? `“${tokens[i]}” with “${tokens[j]}”`
  : panel.endsWith("matrix") ? `row ${i + 1}, column ${j + 1}` : `“${tokens[i]}”, number ${j + 1}`;

/** What happens in a panel at [i, j]: a sentence, the arithmetic, and the cells that it uses. */
export function explain(panel, i, j, all, tokens) {
  const token = `“${tokens[i]}”`, other = `“${tokens[j]}”`, width = all.keys[0].length, d = all.vectors[0].length;
  const row = (name, n) => all[name][n].map((_, k) => [name, n, k]);
  const column = (name, n) => all[name].map((_, k) => [name, k, n]);
  const role = ROLES[roleOf(panel)];
  if (panel === "vectors") return { says: `Each token is a vector of ${d} numbers. Nothing has been compared yet.`, sum: `number ${j + 1} of ${token} is ${short(all.vectors[i][j])}`, uses: [] };
  if (panel.endsWith("matrix")) return { says: `This matrix is learned and the same for every token. Its column ${j + 1} makes number ${j + 1} of each ${role}.`,
    sum: `row ${i + 1}, column ${j + 1} is ${short(all[panel][i][j])}`, uses: [] };
  if (role) return { says: `The vector of ${token} times the ${role} matrix is the ${role} of ${token}. Its number ${j + 1} needs column ${j + 1}: multiply number by number, then add.`,
    sum: written(all.vectors[i], turned(all[`${role} matrix`])[j]), uses: [...row("vectors", i), ...column(`${role} matrix`, j)] };
  if (panel === "scores") return { says: `How well do they match? The query of ${token} times the key of ${other}: multiply number by number, then add.`,
    sum: written(all.queries[i], all.keys[j]), uses: [...row("queries", i), ...row("keys", j)] };
  if (panel === "scaled") return { says: `Each score is divided by the square root of ${width}, because a key has ${width} numbers.`,
    sum: `${short(all.scores[i][j])} ÷ ${short(Math.sqrt(width))} = ${short(all.scaled[i][j])}`, uses: [["scores", i, j]] };
  if (panel === "weights") {
    const raised = all.scaled[i].map(Math.exp);
    return { says: `Softmax over the row of ${token}: raise e to each score, divide by the sum. Every weight is positive, and the row sums to 1.`,
      sum: `${short(raised[j])} ÷ (${raised.map(short).join(" + ")}) = ${short(all.weights[i][j])}`, uses: row("scaled", i) };
  }
  return { says: `The output of ${token} is the average of all values, weighted by its row of weights. This is number ${j + 1} of it.`,
    sum: written(all.weights[i], turned(all.values)[j]), uses: [...row("weights", i), ...column("values", j)] };
}

function draw({ body, data, get, index, put, on, later }) {
  const tokens = data.tokens.map(visible), projections = data.projections, first = get("x");
  check(tokens, first, projections);
  let all = trace(first, projections), edited = [index("row", tokens.length), 0], look = null;
  const step = () => index("step", STEPS.length);
  const role = () => index("role", ROLES.length);
  const made = () => parts(step(), role()).at(-1);
  const chosen = () => [made(), index("row", tokens.length), index("column", all[made()][0].length)];

  const pick = choice("Step", STEPS.map((name, n) => `${n + 1} ${name}`), (n) => { play.stop(); put("step", n); }, { named: false });
  pick.node.classList.add("live-steps");
  pick.chips.forEach((chip, n) => chip.lastChild.replaceChildren(String(n + 1), e("span.live-long", {}, ` ${STEPS[n]}`)));
  const play = player({ last: () => STEPS.length - 1, at: step, go: (n) => put("step", n), pace: () => ({ wait: calm() ? 4000 : 2500, stride: 1 }), later });
  const pickRole = choice("Role", ROLES, (n) => put("role", n), { named: false });
  const panels = PANELS.map(([name, formula, from, line, column]) => {
    const matrix = name.endsWith("matrix");
    const map = grid({ label: `${name}: a row for each ${matrix ? "number of a vector" : "token"}`, corner: matrix ? "number" : "token", room: 5,
      rows: matrix ? all[name].map((_, k) => String(k + 1)) : tokens, columns: square(name) ? tokens : all[name][0].map((_, k) => String(k + 1)),
      onlook: (to) => { look = to && from <= step() ? [name, to[0], to[1] ?? 0] : null; show(); },
      onchoose: ([i, j]) => {
        look = null;
        if (name === "vectors") edited = [i, j ?? 0];
        if (step() === 1 && roleOf(name) >= 0) put("role", roleOf(name));
        if (!matrix) { put("column", j ?? 0); put("row", i); }
        if (from <= step() && made() !== name) look = [name, i, j ?? 0];
        show();
      } });
    map.node.classList.add("live-numbered");
    const [base, index_] = formula.split("_");
    const title = e("p.live-panel-name", {}, name, " ", e("span.live-formula", { "aria-hidden": "true" }, base, ...(index_ ? [e("sub", {}, index_)] : [])));
    return { name, from, ...map, whole: e("div.live-panel", line ? { style: `--line: ${line}; --place: ${column}` } : {}, title, map.node) };
  });
  const flows = [panels.slice(0, TOP), panels.slice(TOP)].map((part) => e("div.live-flow", {}, ...part.map(({ whole }) => whole)));
  const flow = e("div.live-panels", { style: `--names: ${clamp(Math.max(...tokens.map((token) => token.length)), 1, 8)}` }, pickRole.node, ...flows);
  const says = readout(), sum = e("p.live-sum"), where = e("p.live-title");
  const turn = slider("", { min: -3, max: 3, step: 0.1, says: (value) => fixed(value, 1), oninput: (value) => {
    put("x", get("x").map((row, i) => row.map((old, j) => (i === edited[0] && j === edited[1] ? value : old))));
  } });
  const reset = button("Put back", () => put("x", first));
  const table = numbers("All numbers as a table", () => ({ head: ["matrix", "row", "numbers"],
    rows: PANELS.flatMap(([name]) => all[name].map((row, i) => [name, name.endsWith("matrix") ? i + 1 : tokens[i], row.map((x) => fixed(x, 3)).join("  ")])) }));
  body.append(e("div.live-controls", {}, pick.node, play.node), flow,
    e("div.live-box", {}, where, says.node, sum), e("div.live-controls.live-turn", {}, turn.node, reset), table.node);

  // where the panels do not fit beside each other, only those of the step are shown; where even these do not, one under the other
  const fit = () => {
    body.classList.remove("live-compact", "live-tight");
    for (const kind of ["live-compact", "live-tight"]) body.classList.toggle(kind, flow.scrollWidth > flow.clientWidth);
  };
  let seen = 0;
  const room = new ResizeObserver(() => requestAnimationFrame(() => { if (body.clientWidth !== seen) { seen = body.clientWidth; fit(); } }));
  room.observe(body);
  later(() => room.disconnect());

  function paint() {
    all = trace(get("x"), projections);
    const shown = parts(step(), role());
    flow.classList.toggle("live-multiply", [1, 5].includes(step()));
    pickRole.node.hidden = step() !== 1;
    for (const { name, from, cells, whole } of panels) {
      const top = largest(all[name].flat());
      whole.classList.toggle("live-later", from > step());
      whole.classList.toggle("live-now", from === step());
      whole.classList.toggle("live-part", shown.includes(name));
      whole.style.setProperty("--factor", ["2 / 1", "1 / 2", "2 / 2"][shown.indexOf(name)] ?? "auto");
      cells.forEach((row, i) => row.forEach((cell, j) => tint(cell, all[name][i][j] / top, from > step() ? "not computed yet" : short(all[name][i][j]), short(all[name][i][j]))));
    }
    pick.set(step());
    pickRole.set(role());
    table.refresh();
    fit();
    show();
  }
  function show() {
    const [panel, i, j] = look ?? chosen();
    const { says: text, sum: arithmetic, uses } = explain(panel, i, j, all, tokens);
    const used = new Set(uses.map(String));
    for (const { name, cells, set, mark } of panels) {
      if (name === panel) { set([i, j]); mark([i, j]); } else mark([-1, -1]);
      cells.forEach((row, a) => row.forEach((cell, b) => {
        cell.classList.toggle("live-used", used.has(String([name, a, b])));
        cell.classList.toggle("live-edited", name === "vectors" && a === edited[0] && b === edited[1]);
      }));
    }
    where.textContent = `Step ${FROM[panel] + 1} of ${STEPS.length}: ${panel}, ${named(tokens, panel, i, j)}`;
    sum.textContent = arithmetic;
    says.say(flow, text);
    turn.name.textContent = `Change number ${edited[1] + 1} of “${tokens[edited[0]]}”`;
    turn.set(get("x")[edited[0]][edited[1]]);
  }
  on("step role x", () => { look = null; paint(); });
  on("row column", show);
  paint();
}

export default figure("attention_steps", ["tokens", "projections"], draw);
