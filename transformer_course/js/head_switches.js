// Heads of one layer that can be switched off: what a model still can, for every subset of them, as it was measured.
// State: heads (names); rows, columns (tokens), weights[head][row][column] in thousandths; measured[subset], where bit h of the
// subset says that head h is on; measure (its name), chance (what guessing gives, or null); on (a list of true and false).

import { bar, button, count, e, expect, figure, fixed, largest, numbers, readout, thumbnail, toggle, visible } from "./lib.js";

/** The place of a subset in the measurements. */
export const subset = (on) => on.reduce((bits, is, h) => bits + (is ? 2 ** h : 0), 0);
/** Heads in words: “a” and “b”; “none of them” without any. */
export const listed = (names) => (names.length < 2 ? names[0] ?? "none" : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

export function check({ heads, rows, columns, weights, measured, chance }) {
  if (!heads.length || heads.length > 4) throw new RangeError(`${heads.length} heads can't be switched here; there may be 1 to 4`);
  if (rows.length > 64 || columns.length > 64 || !rows.length || !columns.length)
    throw new RangeError(`a map of ${count(rows.length)} × ${count(columns.length)} cells can't be drawn; the most is 64 × 64`);
  if (weights.length !== heads.length) throw new RangeError(`there are ${weights.length} matrices of weights for ${heads.length} heads`);
  weights.forEach((matrix, h) => expect(`the weights of “${heads[h]}”`, matrix, rows.length, columns.length));
  if (measured.length !== 2 ** heads.length) throw new RangeError(`${heads.length} heads have ${2 ** heads.length} subsets, got ${measured.length} measurements`);
  expect("the measurements", [measured], 1, measured.length);
  if (chance != null && !Number.isFinite(chance)) throw new RangeError(`chance must be a number, got ${chance}`);
}

function draw({ body, data, get, put, on }) {
  check(data);
  const { weights, measured, measure, chance } = data, heads = data.heads.map(visible), all = measured.length - 1;
  const top = largest(weights.flat(2)), longest = largest([...measured, chance ?? 0]);
  const state = () => heads.map((_, h) => (Array.isArray(get("on")) ? get("on")[h] !== false : true));
  const set = (h, is) => put("on", state().map((was, k) => (k === h ? is : was)));
  let before = null;                                  // the state that the last press changed

  const cards = heads.map((name, h) => {
    const thumb = thumbnail(), control = toggle(name, (is) => { before = state(); set(h, is); });
    thumb.set(weights[h], top);
    return { ...control, thumb, whole: e("div.live-head", {}, control.node, thumb.node) };
  });
  const press = (is) => () => { before = null; put("on", heads.map(() => is)); };
  const buttons = [button("All on", press(true)), button("All off", press(false))];
  const marks = [["all heads", measured[all]], ...(chance == null ? [] : [["chance", chance]])].map(([name, value]) => e("span.live-level", { style: `--share: ${value / longest * 100}%` }, e("span", {}, name)));
  const filled = bar(), amount = e("strong.live-amount"), says = readout();
  const table = numbers("Every combination as a table", () => ({ head: ["heads that are on", measure], rows: measured.map((value, bits) => [listed(heads.filter((_, h) => bits & 2 ** h)), fixed(value, 3)]) }));
  body.append(e("div.live-heads", {}, ...cards.map(({ whole }) => whole)), e("p.live-scale", {}, "In each map a row reads and a column is read; more colour is a larger weight."),
    e("div.live-player", {}, ...buttons), e("div.live-panel", {}, e("p.live-panel-name", {}, measure), amount, e("div.live-gauge", { "aria-hidden": "true" }, filled.node, ...marks)), says.node, table.node);

  function show() {
    const now = state(), value = measured[subset(now)], changed = before && now.findIndex((is, h) => is !== before[h]);
    cards.forEach(({ set: check_, whole }, h) => { check_(now[h]); whole.classList.toggle("live-off", !now[h]); });
    amount.textContent = fixed(value, 3);
    filled.set(value / longest);
    const names = heads.filter((_, h) => now[h]);
    says.say(null, `${names.length === heads.length ? "All heads are on" : names.length ? `Only ${listed(names)} ${names.length === 1 ? "is" : "are"} on` : "No head is on"}: ${measure} ${fixed(value, 3)}. `,
      changed != null && changed >= 0 ? `Switching ${heads[changed]} ${now[changed] ? "on" : "off"} changed it by ${value >= measured[subset(before)] ? "+" : ""}${fixed(value - measured[subset(before)], 3)}.` : "");
    table.refresh();
  }
  on("on", show);
  show();
}

export default figure("head_switches", ["heads", "rows", "columns", "weights", "measured", "measure", "chance"], draw);
