// Vectors of positions as a map: what stands where, the wave of one number, and how alike two positions are.
// State: numbers[number][position] in thousandths; length, number, first, second (positions).

import { clamp, count, e, figure, fixed, numbers, readout, slider } from "./lib.js";

export function check(table) {
  if (!table.length || !table[0]?.length) throw new RangeError("there are no positions or no numbers");
  if (table.length > 256 || table[0].length > 512) throw new RangeError(`${count(table[0].length)} positions with ${count(table.length)} numbers are too many to draw; the most is 512 with 256`);
  if (table.some((row) => row.length !== table[0].length || row.some((x) => !Number.isFinite(x)))) throw new RangeError(`the table must hold ${table.length} even rows of numbers`);
}

/** The cosine of the angle between the vectors of two positions; 0 if one of them is zero. */
export function similarity(table, a, b) {
  const dot = (i, j) => table.reduce((sum, row) => sum + row[i] * row[j], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)) || 0;
}

/** One dot per number: how opaque the positive and how opaque the negative ones are, as images that colours shine through. */
function masks(table, n, top) {
  return [1, -1].map((sign) => {
    const canvas = e("canvas", { width: n * 4, height: table.length * 4 }), pen = canvas.getContext("2d");
    table.forEach((row, j) => { for (let i = 0; i < n; i++) if (row[i] * sign > 0) { pen.globalAlpha = Math.abs(row[i]) / top; pen.fillRect(i * 4, j * 4, 4, 4); } });
    return `url(${canvas.toDataURL()})`;
  });
}

/** A curve over the positions, from -1 at the bottom to 1 at the top. */
const curve = (values, top) => values.map((y, i) => `${i + 0.5},${(1 - y / top).toFixed(3)}`).join(" ");

function chart() {
  const line = e("polyline", { "vector-effect": "non-scaling-stroke" }), zero = e("line", { y1: 1, y2: 1, x1: 0, "vector-effect": "non-scaling-stroke" });
  const svg = e("svg", { preserveAspectRatio: "none", "aria-hidden": "true" }, zero, line), node = e("div.live-chart", {}, svg);
  return { node, set(values, top) {
    svg.setAttribute("viewBox", `0 -0.08 ${values.length} 2.16`);
    zero.setAttribute("x2", values.length);
    line.setAttribute("points", curve(values, top));
  } };
}

function draw({ body, get, put, on }) {
  const table = get("numbers");
  check(table);
  const depth = table.length, longest = table[0].length, top = Math.max(...table.flat().map(Math.abs)) || 1;
  const length = () => clamp(get("length") | 0, 2, longest);
  const [number, first, second] = [["number", () => depth - 1], ["first", () => length() - 1], ["second", () => length() - 1]].map(([key, last]) => () => clamp(get(key) | 0, 0, last()));
  let look = null;

  const sliders = {
    length: slider("Positions", { min: 2, max: longest, says: count, oninput: (n) => put("length", n) }),
    number: slider("Component", { max: depth - 1, oninput: (n) => put("number", n) }),
    first: slider("One position", { max: longest - 1, oninput: (n) => put("first", n) }),
    second: slider("Another position", { max: longest - 1, oninput: (n) => put("second", n) }),
  };
  const layers = ["live-above", "live-under"].map((name) => e(`div.live-layer.${name}`));
  const mark = () => e("span.live-mark", { "aria-hidden": "true" });
  const [cursor, band] = [e("span.live-cursor", { "aria-hidden": "true" }), e("span.live-band", { "aria-hidden": "true" })];
  const map = e("div.live-map", { role: "img" }, ...layers, band, cursor);
  const ticks = e("p.live-axis", { "aria-hidden": "true" });
  const wave = chart(), alike = chart();
  const marks = { wave: mark(), one: mark(), other: mark() };
  marks.other.classList.add("live-other");
  wave.node.append(marks.wave);
  alike.node.append(marks.one, marks.other);
  const [value, cosine] = [readout(), readout()];
  for (const { node } of [value, cosine]) node.setAttribute("class", "live-panel-name");
  const data = numbers("The two vectors as a table", () => ({ head: ["component", `position ${first()}`, `position ${second()}`],
    rows: table.map((row, j) => [String(j), fixed(row[first()] / 1000, 3), fixed(row[second()] / 1000, 3)]) }));
  body.append(e("div.live-controls", {}, sliders.length.node, sliders.number.node),
    e("div.live-plot", {}, e("p.live-axis.live-down", { "aria-hidden": "true" }, "components"), map, ticks, value.node, wave.node, cosine.node, alike.node),
    e("div.live-controls", {}, sliders.first.node, sliders.second.node),
    e("p.live-scale", {}, fixed(-top / 1000, 2), e("span.live-ramp.live-both", { "aria-hidden": "true" }), fixed(top / 1000, 2), e("span.live-note", {}, "The colours of the map."), " ", e("span.live-hint", {}, "Point at it for a number; a click keeps it.")),
    e("p.live-scale", {}, "Similarity is the cosine of the angle between two vectors: 1 where they point the same way, 0 where they are perpendicular."), data.node);

  const place = (event) => {
    const box = map.getBoundingClientRect(), share = (x, all) => clamp(Math.floor(x * all), 0, all - 1);
    return [share((event.clientX - box.left) / box.width, length()), share((event.clientY - box.top) / box.height, depth)];
  };
  map.addEventListener("pointermove", (event) => { look = place(event); show(); });
  map.addEventListener("pointerleave", () => { look = null; show(); });
  map.addEventListener("click", (event) => { const [i, j] = place(event); look = null; put("number", j); put("first", i); });

  function paint() {
    const n = length();
    masks(table, n, top).forEach((image, k) => { layers[k].style.maskImage = image; });
    sliders.length.set(n);
    ticks.replaceChildren(...["position 0", count(Math.floor(n / 2)), count(n - 1)].map((at) => e("span", {}, at)));
    for (const key of ["first", "second"]) sliders[key].input.max = n - 1;
    show();
  }
  function show() {
    const n = length(), [i, j] = look ?? [first(), number()];
    const at = (x) => `${(x + 0.5) / n * 100}%`, height = (y) => `${(1.08 - y) / 2.16 * 100}%`;
    const row = table[j].slice(0, n), likeness = row.map((_, k) => similarity(table, first(), k));
    wave.set(row, top);
    alike.set(likeness, 1);
    Object.assign(cursor.style, { left: `${i / n * 100}%`, top: `${j / depth * 100}%`, width: `${100 / n}%`, height: `${100 / depth}%` });
    Object.assign(band.style, { top: `${j / depth * 100}%`, height: `${100 / depth}%` });
    Object.assign(marks.wave.style, { left: at(i), top: height(row[i] / top) });
    Object.assign(marks.one.style, { left: at(first()), top: height(1) });
    Object.assign(marks.other.style, { left: at(second()), top: height(likeness[second()]) });
    value.say(null, `Component ${j} at position ${i}: ${fixed(row[i] / 1000, 3)}`);
    cosine.say(null, `Positions ${first()} and ${second()}: similarity ${fixed(likeness[second()], 3)}`);
    map.setAttribute("aria-label", `Map of ${n} positions with ${depth} components each. ${value.node.textContent}.`);
    sliders.number.set(number());
    sliders.first.set(first());
    sliders.second.set(second());
    data.refresh();
  }
  on("length", paint);
  on("number first second", show);
  paint();
}

export default figure("position_map", ["numbers"], draw);
