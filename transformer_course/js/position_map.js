// Sinusoidal positions as a map, a row for each position and a column for each component, with the value and the formula of one of them.
// State: speeds[pair] in radians per position; base; longest; length (positions that are shown), position, component (chosen).

import { clamp, count, e, figure, fixed, move, numbers, readout, slider } from "./lib.js";

export const value = (speeds, position, component) => Math[component % 2 ? "cos" : "sin"](position * speeds[component >> 1]);
const below = (number) => [...String(number)].map((digit) => String.fromCharCode(0x2080 + +digit)).join("");
const digits = (x) => Number(x.toPrecision(3)).toLocaleString("en");
/** How a component is computed, from its letters to its number. */
export function formula(speeds, position, component) {
  const pair = component >> 1, wave = component % 2 ? "cos" : "sin";
  return `${wave}(${position} θ${below(pair)}) = ${wave}(${fixed(position * speeds[pair], 5)}) = ${fixed(value(speeds, position, component), 4)}`;
}
/** What is special about a component: its pair, its speed, the length of its wave. */
export function meaning(speeds, base, component) {
  const pair = component >> 1, speed = speeds[pair];
  return `Components ${2 * pair} and ${2 * pair + 1} are the sine and the cosine of pair ${pair}, which turns by θ${below(pair)} = ${count(base)}^(−${2 * pair}/${2 * speeds.length}) = ${Number(speed.toPrecision(6))} radians a position: a wave is ${digits(2 * Math.PI / speed)} positions long.`;
}

export function check({ speeds, base, longest }) {
  if (!Array.isArray(speeds) || !speeds.length || speeds.length > 256) throw new RangeError(`${speeds?.length ?? "no"} pairs can't be drawn; there may be 1 to 256`);
  const wrong = [...speeds, base].find((x) => !Number.isFinite(x) || x <= 0);
  if (wrong !== undefined) throw new RangeError(`the base and the speeds must be positive numbers, got ${wrong}`);
  if (!Number.isInteger(longest) || longest < 2 || longest > 1024) throw new RangeError(`the number of positions must lie between 2 and 1,024, got ${longest}`);
}

/** A dot per number, as opaque as it is large: an image of the positive and one of the negative numbers, for colours to shine through. */
function masks(speeds, rows) {
  const columns = 2 * speeds.length;
  return [1, -1].map((sign) => {
    const canvas = e("canvas", { width: columns, height: rows }), pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows);
    for (let n = 0; n < rows * columns; n++) image.data[4 * n + 3] = Math.max(0, 255 * sign * value(speeds, Math.floor(n / columns), n % columns));
    pen.putImageData(image, 0, 0);
    return `url(${canvas.toDataURL()})`;
  });
}

function draw({ body, data, get, index, put, on }) {
  check(data);
  const { speeds, base, longest } = data, width = 2 * speeds.length;
  const length = () => clamp(get("length") | 0, 2, longest);
  const chosen = () => [index("position", length()), index("component", width)];
  let look = null;                                    // what the pointer is over: [position, component]

  const choose = ([position, component]) => { look = null; put("position", position); put("component", component); };
  const sliders = {
    length: slider("Sequence length", { min: 2, max: longest, says: count, oninput: (n) => put("length", n) }),
    position: slider("Position", { max: longest - 1, says: count, oninput: (n) => put("position", n) }),
    component: slider("Component", { max: width - 1, says: count, oninput: (n) => put("component", n) }),
  };
  const layers = ["live-up", "live-down"].map((name) => e(`span.live-layer.${name}`));
  const lines = ["live-across", "live-along"].map((name) => e(`span.live-line.${name}`)), cursor = e("span.live-cursor");
  const map = e("div.live-map", { tabindex: 0, role: "application", "aria-label": "Map of positions and components: arrow keys move by one, Home and End to the first and the last" },
    e("div.live-layers", { "aria-hidden": "true" }, ...layers, ...lines, cursor));
  const down = e("p.live-axis", { "aria-hidden": "true" }), across = e("p.live-axis", { "aria-hidden": "true" });
  const title = readout(), sum = e("p.live-sum"), note = e("p.live-says"), name = e("span.live-panel-name");
  title.node.className = "live-title";
  const line = e("polyline", { "vector-effect": "non-scaling-stroke" }), zero = e("line", { "vector-effect": "non-scaling-stroke" });
  const svg = e("svg", { preserveAspectRatio: "none", "aria-hidden": "true" }, zero, line), dot = e("span.live-dot");
  const table = numbers("The vector of this position as a table", () => ({ head: ["component", "formula"],
    rows: Array.from({ length: width }, (_, j) => [String(j), formula(speeds, chosen()[0], j)]) }));
  body.append(e("div.live-controls.live-turns", {}, ...Object.values(sliders).map(({ node }) => node)),
    e("div.live-heat", {}, down, map, across),
    e("p.live-scale", {}, "−1", e("span.live-ramp.live-both", { "aria-hidden": "true" }), "1 ", e("span.live-hint.live-note", {}, "Point at the map, or move in it with the arrow keys.")),
    e("div.live-box", {}, title.node, sum, note),
    e("div.live-panel", {}, name, e("div.live-chart", { "aria-hidden": "true" }, svg, dot)), table.node);

  const under = ({ clientX, clientY }) => {
    const box = map.getBoundingClientRect(), part = (share, all) => clamp(Math.floor(share * all), 0, all - 1);
    return [part((clientY - box.top) / box.height, length()), part((clientX - box.left) / box.width, width)];
  };
  map.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") choose(under(event));
    else { look = under(event); show(); }
  });
  map.addEventListener("pointerleave", () => { look = null; show(); });
  map.addEventListener("click", (event) => choose(under(event)));
  map.addEventListener("keydown", (event) => {
    const to = move(chosen(), event, length(), width);
    if (!to) return;
    event.preventDefault();
    choose(to);
  });

  function paint() {
    const n = length();
    masks(speeds, n).forEach((image, k) => { layers[k].style.maskImage = image; });
    sliders.length.set(n);
    sliders.position.input.max = n - 1;
    down.replaceChildren(...["0", "position", count(n - 1)].map((text) => e("span", {}, text)));
    across.replaceChildren(...["0", "component", count(width - 1)].map((text) => e("span", {}, text)));
    svg.setAttribute("viewBox", `0 -1.1 ${n - 1} 2.2`);
    zero.setAttribute("x2", n - 1);
    show();
  }
  function show() {
    const n = length(), [i, j] = look ?? chosen();
    const top = `${(i + 0.5) / n * 100}%`, left = `${(j + 0.5) / width * 100}%`;
    const inside = (at) => `clamp(5px, ${at}, 100% - 5px)`;
    Object.assign(cursor.style, { top: inside(top), left: inside(left), width: `${100 / width}%`, height: `${100 / n}%` });
    lines[0].style.top = top;
    lines[1].style.left = left;
    title.say(null, `Position ${count(i)}, component ${j}: ${fixed(value(speeds, i, j), 4)}`);
    sum.textContent = formula(speeds, i, j);
    note.textContent = meaning(speeds, base, j);
    name.textContent = `Component ${j} at the positions 0 to ${count(n - 1)}`;
    line.setAttribute("points", Array.from({ length: n }, (_, t) => `${t},${fixed(-value(speeds, t, j), 3).replace("−", "-")}`).join(" "));
    Object.assign(dot.style, { left: `${i / (n - 1) * 100}%`, top: `${(1.1 - value(speeds, i, j)) / 2.2 * 100}%` });
    sliders.position.set(chosen()[0]);
    sliders.component.set(chosen()[1]);
    table.refresh();
  }
  on("length", paint);
  on("position component", show);
  paint();
}

export default figure("position_map", ["speeds", "base", "longest"], draw);
