// Heads that form while a model trains: a slider over the training steps, the map of a head at each, and losses and scores as curves.
// State: tokens; heads (names); steps; maps[head][step], the weights of a lower triangle, row by row, in thousandths, for the first
// tokens; at (the steps of the curves, with those of the maps among them), losses and scores, each [name, values], uniform (the loss of
// a guess, or null); step (a place in steps), head, row, column (null: what is read most), which are chosen.

import { lay, weight } from "./attention_grid.js";
import { calm, choice, count, e, expect, figure, fixed, largest, numbers, player, readout, slider } from "./lib.js";

/** The side of a lower triangle with that many numbers; no whole number if there is none. */
export const side = (size) => (Math.sqrt(8 * size + 1) - 1) / 2;
/** A lower triangle as a square matrix with zeros above it. */
export function square(flat) {
  const n = side(flat.length);
  return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => (j > i ? 0 : flat[i * (i + 1) / 2 + j])));
}
/** The places whose labels have room, when each takes `room` of an axis from 0 to 1; the last one always has. */
export function labelled(places, room) {
  const found = [];
  for (const x of places) if (!found.length || x - found.at(-1) >= room) found.push(x);
  while (found.length > 1 && found.at(-1) !== places.at(-1) && places.at(-1) - found.at(-1) < room) found.pop();
  return found.at(-1) === places.at(-1) ? found : [...found, places.at(-1)];
}

export function check({ tokens, heads, steps, maps, at, losses, scores }) {
  if (!tokens.length || tokens.length > 64) throw new RangeError(`${count(tokens.length)} tokens can't be drawn; there may be 1 to 64`);
  if (!heads.length || maps.length !== heads.length) throw new RangeError(`there are maps of ${maps.length} heads for ${heads.length} names`);
  if (!steps.length) throw new RangeError("there are no steps");
  maps.forEach((one, h) => {
    if (one.length !== steps.length) throw new RangeError(`“${heads[h]}” has ${one.length} maps for ${steps.length} steps`);
    const size = one[0].length;
    expect(`the weights of “${heads[h]}”`, one, steps.length, size);
    if (!Number.isInteger(side(size)) || side(size) > tokens.length || !size) throw new RangeError(`“${heads[h]}” has ${size} weights at each step, which make no triangle of at most ${tokens.length} tokens`);
  });
  const lost = steps.find((step) => !at.includes(step));
  if (lost !== undefined) throw new RangeError(`nothing was measured at step ${lost}`);
  for (const [name, values] of [...losses, ...scores]) expect(`the values of “${name}”`, [values], 1, at.length);
}

function show({ body, data, get, put, index, on, later }) {
  check(data);
  const { tokens, heads, steps, maps, at, losses, scores, uniform } = data, last = steps.length - 1;
  const step = () => index("step", steps.length), head = () => index("head", heads.length), place = (n) => (at.length > 1 ? n / (at.length - 1) : 0);
  const letters = () => tokens.slice(0, side(maps[head()][0].length)), row = () => index("row", letters().length), now = () => at.indexOf(steps[step()]);

  const play = player({ last: () => last, at: step, go: (n) => put("step", n), pace: () => ({ wait: calm() ? 1600 : 800, stride: 1 }), later });
  const when = slider("Training step", { max: last, says: (n) => count(steps[n]), oninput: (n) => { play.stop(); put("step", n); } });
  const pick = choice("Head", heads, (h) => put("head", h)), spot = e("div.live-place"), most = e("span"), says = readout();
  says.node.classList.add("live-heard");
  const panels = [["Loss", losses, Math.ceil(Math.max(uniform ?? 0, ...losses.flatMap(([, values]) => values))), 0], ["Scores of the heads", scores, 1, 2]].filter(([, lines]) => lines.length).map(chart);
  const table = numbers("All losses and scores as a table", () => ({ head: ["step", ...[...losses, ...scores].map(([name]) => name)], rows: at.map((one, n) => [count(one), ...[...losses, ...scores].map(([, values]) => fixed(values[n], 3))]) }));
  body.append(e("div.live-controls", {}, play.node, when.node), e("div.live-pair", {}, ...panels.map(({ node }) => node)), e("p.live-news", {}, "Each measurement takes the same room, so the first steps lie further apart."), says.node, ...(heads.length > 1 ? [pick.node] : []), spot,
    e("p.live-scale", {}, "0", e("span.live-ramp", { "aria-hidden": "true" }), most, e("span.live-note", {}, "A row reads, a column is read."), " ", e("span.live-hint", {}, "Point at a cell or a token; a click keeps it.")), table.node);

  /** Curves under each other's scale, from 0 to `top`, with a line at the step that is shown. */
  function chart([title, lines, top, colour]) {
    const high = (y) => `${100 * (1 - y / top)}%`, line = e("span.live-line.live-along"), dots = lines.map((_, k) => e(`span.live-dot.live-way-${colour + k}`)), amounts = lines.map(() => e("strong"));
    const marks = labelled(steps.map((one) => place(at.indexOf(one))), 0.14);
    const curves = lines.map(([, values], k) => e(`polyline.live-way-${colour + k}`, { "vector-effect": "non-scaling-stroke", points: values.map((y, n) => `${place(n).toFixed(4)},${(1 - y / top).toFixed(4)}`).join(" ") }));
    const rules = [0, 0.5, 1].map((part) => e("span.live-rule", { style: `bottom: ${100 * part}%` }, e("span", {}, String(part * top)))), guess = colour === 0 && uniform !== null ? [e("span.live-rule.live-guessed", { style: `top: ${high(uniform)}` })] : [];
    const node = e("div.live-panel.live-sizes.live-curves", {}, e("span.live-panel-name", {}, title),
      e("div.live-chart", { "aria-hidden": "true" }, ...rules, ...guess, line, e("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" }, ...curves), ...dots),
      e("p.live-ticks", { "aria-hidden": "true" }, ...marks.map((x) => e("span", { style: `left: ${100 * x}%` }, count(at[Math.round(x * (at.length - 1))])))),
      e("ul.live-named", {}, ...lines.map(([name], k) => e("li", {}, e(`i.live-dash.live-way-${colour + k}`), e("span", {}, `${name} `), amounts[k])), ...(guess.length ? [e("li", {}, e("i.live-dash.live-guessed"), e("span", {}, "uniform guess "), e("strong", {}, fixed(uniform, 2)))] : [])));
    return { node, paint() {
      line.style.left = `${100 * place(now())}%`;
      lines.forEach(([, values], k) => {
        Object.assign(dots[k].style, { left: `${100 * place(now())}%`, top: high(values[now()]) });
        amounts[k].textContent = fixed(values[now()], 2);
      });
    } };
  }

  let map, weights;
  function open() {
    const top = largest(maps[head()].flat());
    pick.set(head());
    map = lay(spot, { rows: letters(), columns: null }, top, { get, put, row, weights: () => weights, room: letters().length > 16 ? 1 : 3 });
    most.textContent = weight(top);
    paint();
  }
  function paint() {
    weights = square(maps[head()][step()]);
    when.set(step());
    panels.forEach((panel) => panel.paint());
    says.say(null, `Step ${count(steps[step()])}: ${[...losses.map(([name, values]) => `loss, ${name}, ${fixed(values[now()], 2)}`), ...scores.map(([name, values]) => `score, ${name}, ${fixed(values[now()], 2)}`)].join("; ")}.`);
    map.paint();
  }
  on("step", paint);
  on("head", open);
  on("row column", () => map.settle());
  open();
  table.refresh();
}

export default figure("induction_timeline", ["tokens", "heads", "steps", "maps", "at", "losses", "scores", "uniform"], show);
