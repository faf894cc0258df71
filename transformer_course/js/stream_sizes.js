// How large the residual stream is after each sublayer, in two or more ways of wiring, with a slider for the depth.
// State: names, sizes[name][sublayer], the first of them at the start; depth (sublayers), scale (0 logarithmic, 1 linear), on [name].

import { choice, clamp, count, e, expect, figure, numbers, plural, readout, slider, toggle } from "./lib.js";

export const short = (x) => Number(x.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 6 });
/** How high a size stands, from 0 to 1, between the ends of the axis. */
export const height = (x, [low, high], linear) => (linear ? x / high : Math.log(x / low) / Math.log(high / low));
/** The ends of the axis and the sizes that are written at it. */
export function axis(sizes, linear) {
  const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
  if (linear) return { ends: [0, 1.05 * most], marks: [0, most / 2, most] };
  const [from, to] = [Math.floor(Math.log10(least) + 1e-9), Math.ceil(Math.log10(most) - 1e-9)], last = Math.max(to, from + 1), step = Math.ceil((last - from) / 5);
  const marks = Array.from({ length: Math.floor((last - from) / step) + 1 }, (_, n) => 10 ** (from + n * step)).filter((x, n) => n < 2 || x <= most);
  return { ends: [Math.min(least, marks[0]), Math.max(most, marks.at(-1))], marks };
}

export function check({ names, sizes }) {
  if (!names.length || names.length > 4) throw new RangeError(`${names.length} ways can't be told apart; there may be 1 to 4`);
  expect("the sizes", sizes, names.length, sizes?.[0]?.length ?? 0);
  if (sizes[0].length < 2) throw new RangeError(`there must be a sublayer, got ${sizes[0].length} sizes`);
  const wrong = sizes.flat().find((x) => x <= 0);
  if (wrong !== undefined) throw new RangeError(`sizes must be more than 0, got ${wrong}`);
}

function draw({ body, data, get, index, put, on }) {
  check(data);
  const { names, sizes } = data, last = sizes[0].length - 1;
  const depth = () => clamp(get("depth") | 0, 1, last), linear = () => index("scale", 2) === 1;
  const shown = () => names.map((_, n) => { const asked = get("on"); return Array.isArray(asked) && n < asked.length ? Boolean(asked[n]) : true; });

  const pick = choice("Scale", ["logarithmic", "linear"], (n) => put("scale", n));
  const deep = slider("Depth", { min: 1, max: last, says: (n) => plural(n, "sublayer"), oninput: (n) => put("depth", n) });
  const switches = names.map((name, n) => toggle(name, (now) => put("on", shown().map((was, k) => (k === n ? now : was)))));
  switches.forEach(({ node }, n) => node.append(e(`i.live-dash.live-way-${n}`)));
  const lines = names.map((_, n) => e(`polyline.live-way-${n}`, { "vector-effect": "non-scaling-stroke" }));
  const dots = names.map((_, n) => e(`span.live-dot.live-way-${n}`)), rules = e("div");
  const chart = e("div.live-chart", { "aria-hidden": "true" }, rules, e("svg", { viewBox: `0 0 ${last} 1`, preserveAspectRatio: "none" }, ...lines), ...dots);
  const bottom = e("p.live-axis", { "aria-hidden": "true" }, ...["0", "sublayers", count(last)].map((text) => e("span", {}, text)));
  const title = e("p.live-title"), facts = e("p.live-facts"), says = readout();
  const table = numbers("All sizes as a table", () => ({ head: ["sublayers", ...names], rows: Array.from({ length: last + 1 }, (_, i) => [String(i), ...sizes.map((row) => short(row[i]))]) }));
  body.append(e("div.live-controls", {}, deep.node, pick.node), e("div.live-controls", { role: "group", "aria-label": "Shown" }, ...switches.map(({ node }) => node)),
    e("div.live-panel.live-sizes", {}, e("span.live-panel-name", {}, "Size of the stream after each sublayer"), chart, bottom), e("div.live-box", {}, title, facts, says.node), table.node);

  function paint() {
    const n = depth(), now = shown(), flat = linear();
    const { ends, marks } = axis((now.some(Boolean) ? sizes.filter((_, k) => now[k]) : sizes).flat(), flat), share = (x) => height(x, ends, flat);
    rules.replaceChildren(...marks.map((x) => e("span.live-rule", { style: `bottom: ${100 * share(x)}%` }, e("span", {}, short(x)))));
    names.forEach((_, k) => {
      switches[k].set(now[k]);
      for (const node of [lines[k], dots[k]]) node.style.visibility = now[k] ? "" : "hidden";
      lines[k].setAttribute("points", sizes[k].slice(0, n + 1).map((x, i) => `${i},${(1 - share(x)).toFixed(4)}`).join(" "));
      Object.assign(dots[k].style, { left: `${100 * n / last}%`, top: `${100 * (1 - share(sizes[k][n]))}%` });
    });
    pick.set(Number(flat));
    deep.set(n);
    title.textContent = `After ${plural(n, "sublayer")}`;
    facts.replaceChildren(...names.flatMap((name, k) => [e("span", {}, `${name} `), e("strong", {}, short(sizes[k][n]))]));
    says.say(null, `Compared with the start: ${names.map((name, k) => `${name} ${short(sizes[k][n] / sizes[k][0])} times`).join(", ")}.`);
    table.refresh();
  }
  on("depth scale on", paint);
  paint();
}

export default figure("stream_sizes", ["names", "sizes"], draw);
