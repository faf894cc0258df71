// Rotary positions as clock hands: each pair of components of a query and of a key, turned by its position, and what it adds to the score.
// State: query, key (each [pair][2]); components [pair] (names); speeds[way][base][pair] in radians per token; bases (numbers),
// ways (names); longest; trained (tokens in training, or null); m, n (positions of query and key), base, way (chosen).

import { choice, clamp, count, e, expect, figure, fixed, largest, numbers, plural, readout, slider, total } from "./lib.js";

export const turn = ([x, y], angle) => [x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle)];
/** What each pair adds to the score of a query at position m with a key at position n. */
export const contributions = (query, key, speeds, m, n) => query.map((pair, i) => {
  const [a, b] = [turn(pair, m * speeds[i]), turn(key[i], n * speeds[i])];
  return a[0] * b[0] + a[1] * b[1];
});
/** For each pair: whether training, on texts of `trained` tokens, has shown no distance at which its hands turned that far apart. */
export const unseen = (speeds, usual, trained, distance) => speeds.map((speed, i) =>
  trained != null && usual[i] * trained < 2 * Math.PI && Math.abs(distance) * speed > usual[i] * trained + 1e-9);

export function check({ query, key, components, speeds, bases, ways, longest, trained }) {
  if (!query.length || query.length > 8) throw new RangeError(`${query.length} pairs can't be drawn; there may be 1 to 8`);
  expect("the query", query, query.length, 2);
  expect("the key", key, query.length, 2);
  if (components.length !== query.length) throw new RangeError(`${components.length} names do not fit ${query.length} pairs`);
  if (speeds.length !== ways.length) throw new RangeError(`there are ${speeds.length} tables of speeds for ${ways.length} ways`);
  speeds.forEach((table, w) => expect(`the speeds of “${ways[w]}”`, table, bases.length, query.length));
  if (!Number.isInteger(longest) || longest < 2 || longest > 4096) throw new RangeError(`the number of positions must lie between 2 and 4,096, got ${longest}`);
  if (trained != null && !(trained >= 1)) throw new RangeError(`the length in training must be at least 1, got ${trained}`);
}

const signed = (x, digits = 2) => (x > 0 ? "+" : "") + fixed(x, digits);
export const degrees = (radians) => `${Number((radians * 180 / Math.PI).toPrecision(3))}°`;
const at = ([x, y], r) => `${(x * r).toFixed(3)} ${(-y * r).toFixed(3)}`;
const unit = (angle) => [Math.cos(angle), Math.sin(angle)];
/** The path of an arc of radius r around 0, counterclockwise from one angle by another; more than a turn is a circle. */
export function arc(from, by, r) {
  if (Math.abs(by) >= 2 * Math.PI) return `M ${at([1, 0], r)} A ${r} ${r} 0 1 0 ${at([-1, 0], r)} A ${r} ${r} 0 1 0 ${at([1, 0], r)}`;
  return `M ${at(unit(from), r)} A ${r} ${r} 0 ${+(Math.abs(by) > Math.PI)} ${+(by < 0)} ${at(unit(from + by), r)}`;
}

/** A clock with the hands of one pair. */
function clock(name, components) {
  const hands = ["key", "query"].map((role) => ({ line: e(`line.live-hand.live-as-${role}`, { x1: 0, y1: 0 }), tip: e(`circle.live-tip.live-as-${role}`, { r: 0.09 }), letter: e("text.live-letter", {}, role[0]) }));
  const between = e("path.live-between");
  const face = e("svg", { viewBox: "-1.3 -1.3 2.6 2.6", "aria-hidden": "true" }, e("circle.live-face", { r: 1 }), between, ...hands.flatMap(({ line, tip, letter }) => [line, tip, letter]));
  const speed = e("p.live-scale"), adds = e("strong"), mark = e("p.live-scale.live-mark");
  const node = e("div.live-clock-card", {}, e("p.live-panel-name", { title: components }, name), face, adds, speed, mark);
  return { node, set({ query, key, slow, value, fresh, scale }) {
    for (const [{ line, tip, letter }, [x, y], side] of [[hands[0], key, -1], [hands[1], query, 1]]) {
      const long = Math.hypot(x, y), [ux, uy] = long ? [x / long, y / long] : [1, 0], r = long / scale;
      const [tx, ty] = [ux * (r + 0.12) - side * uy * 0.17, uy * (r + 0.12) + side * ux * 0.17];
      line.setAttribute("x2", ux * r); line.setAttribute("y2", -uy * r);
      tip.setAttribute("cx", ux * r); tip.setAttribute("cy", -uy * r);
      letter.setAttribute("x", tx); letter.setAttribute("y", -ty);
    }
    const from = Math.atan2(key[1], key[0]), by = Math.atan2(query[1], query[0]) - from;
    between.setAttribute("d", arc(from, by > Math.PI ? by - 2 * Math.PI : by < -Math.PI ? by + 2 * Math.PI : by, 0.3));
    adds.textContent = signed(value);
    speed.textContent = `${degrees(slow)} a token`;
    mark.textContent = fresh ? "new angle" : "";
    node.classList.toggle("live-fresh", fresh);
  } };
}

/** The score at every distance, as a curve with a dot: {node, draw, point}. */
function curve(last, trained) {
  const line = e("polyline", { "vector-effect": "non-scaling-stroke" }), zero = e("line", { "vector-effect": "non-scaling-stroke" });
  const svg = e("svg", { preserveAspectRatio: "none", "aria-hidden": "true" }, zero, line), dot = e("span.live-dot"), known = e("span.live-known");
  const share = (distance) => `${clamp((distance + last) / (2 * last), 0, 1) * 100}%`;
  const node = e("div.live-chart", { "aria-hidden": "true" }, ...(trained == null ? [] : [known]), svg, dot);
  let scores, top;
  Object.assign(known.style, { left: share(-trained), right: share(-trained) });
  svg.setAttribute("viewBox", `0 -1.1 ${2 * last} 2.2`);
  zero.setAttribute("x2", 2 * last);
  return { node, draw(all) {
    [scores, top] = [all, largest(all)];
    line.setAttribute("points", scores.map((score, i) => `${i},${(-score / top).toFixed(3)}`).join(" "));
  }, point(distance) {
    Object.assign(dot.style, { left: share(distance), top: `${(1.1 - scores[distance + last] / top) / 2.2 * 100}%` });
  } };
}

function draw({ body, data, index, put, on }) {
  check(data);
  const { query, key, components, speeds, bases, ways, longest, trained } = data;
  const scale = largest([...query, ...key].map((pair) => Math.hypot(...pair))) * 1.05;
  const m = () => index("m", longest), n = () => index("n", longest);
  const base = () => index("base", bases.length), way = () => index("way", ways.length);
  const now = () => speeds[way()][base()], score = () => total(contributions(query, key, now(), m(), n()));
  let together = false;                               // whether both were moved last

  const move = (which) => (position) => { together = false; put(which, position); };
  const sliders = {
    m: slider("Query at t", { max: longest - 1, says: count, oninput: move("m") }),
    n: slider("Key at s", { max: longest - 1, says: count, oninput: move("n") }),
    both: slider("Move both", { max: longest - 1, says: () => `t − s = ${fixed(m() - n(), 0)}`, oninput: (first) => {
      const [there, here] = [first + Math.max(0, m() - n()), first + Math.max(0, n() - m())];
      together = true;
      put("m", there);
      put("n", here);
    } }),
  };
  sliders.m.node.classList.add("live-as-query");
  sliders.n.node.classList.add("live-as-key");
  const pickBase = choice("Base", bases.map(count), (b) => put("base", b));
  const pickWay = choice("Stretched", ways, (w) => put("way", w));
  const clocks = query.map((_, i) => clock(`pair ${i}`, components[i]));
  const where = e("p.live-title"), says = readout(), sum = e("p.live-sum"), chart = curve(longest - 1, trained);
  const axis = e("p.live-axis", { "aria-hidden": "true" }, ...[fixed(1 - longest, 0), "0", count(longest - 1)].map((text) => e("span", {}, text)));
  const table = numbers("All pairs as a table", () => ({ head: ["pair", "components", "turns a token", "query has turned", "key has turned", "adds to the score"],
    rows: contributions(query, key, now(), m(), n()).map((value, i) => [String(i), components[i], ...[1, m(), n()].map((times) => degrees(now()[i] * times)), fixed(value, 3)]) }));
  body.append(...(bases.length > 1 ? [pickBase.node] : []), ...(ways.length > 1 ? [pickWay.node] : []),
    e("div.live-controls.live-turns", {}, ...Object.values(sliders).map(({ node }) => node)),
    e("div.live-clocks", {}, ...clocks.map(({ node }) => node)),
    e("p.live-scale", {}, "A pair adds the length of q times the length of k times the cosine of the angle between them."),
    e("div.live-box", {}, where, sum, says.node),
    e("div.live-panel", {}, e("div", {}, e("span.live-panel-name", {}, "Score at every distance t − s"), trained == null ? "" : e("span.live-scale", {}, " shaded: distances in training")), chart.node, axis), table.node);

  function paint() {
    chart.draw(Array.from({ length: 2 * longest - 1 }, (_, i) => total(contributions(query, key, now(), i + 1 - longest, 0))));
    show();
  }
  function show() {
    const table_ = now(), distance = m() - n(), parts = contributions(query, key, table_, m(), n());
    const fresh = unseen(table_, speeds[0][base()], trained, distance), strange = fresh.filter(Boolean).length;
    pickBase.set(base());
    pickWay.set(way());
    sliders.both.input.max = longest - 1 - Math.abs(distance);
    for (const [name, value] of [["m", m()], ["n", n()], ["both", Math.min(m(), n())]]) sliders[name].set(value);
    clocks.forEach((one, i) => one.set({ query: turn(query[i], m() * table_[i]), key: turn(key[i], n() * table_[i]), slow: table_[i], value: parts[i], fresh: fresh[i], scale }));
    where.textContent = `Query at ${count(m())}, key at ${count(n())}: distance ${fixed(distance, 0)}, score ${fixed(score(), 2)}`;
    sum.textContent = `${parts.map((x, i) => (i ? `${x < 0 && fixed(x, 2) !== "0.00" ? "−" : "+"} ${fixed(Math.abs(x), 2)}` : fixed(x, 2))).join(" ")} = ${fixed(score(), 2)}`;
    says.say(null, together ? `Both moved, the hands of each pair turned together, and the score stays ${fixed(score(), 2)}. ` : "Only the distance counts: move both, and the score stays. ",
      trained == null ? "" : `Training showed distances below ${count(trained)}. ${strange ? `Here ${plural(strange, "pair")} of ${fresh.length} ${strange === 1 ? "stands" : "stand"} at an angle that is new (dashed).` : "No pair stands at a new angle."}`);
    chart.point(distance);
    table.refresh();
  }
  on("base way", paint);
  on("m n", show);
  paint();
}

export default figure("rope_clocks", ["query", "key", "components", "speeds", "bases", "ways", "longest", "trained"], draw);
