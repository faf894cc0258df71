// The loss that a law expects of models of all sizes that cost the same to train, and the best of them for a budget.
// State: laws [name, E, A, B, alpha, beta], models [name, parameters, tokens]; law, axis (0 parameters, 1 tokens), budget and size,
// the powers of ten of the FLOPs and of the parameters.

import { button, choice, clamp, e, figure, numbers, readout, slider } from "./lib.js";
import { amount, digits, power } from "./amounts.js";

/** What no model gets below, what it is too small for, and what it has not read: together the loss. */
export const parts = ([, E, A, B, alpha, beta], parameters, tokens) => [E, A / parameters ** alpha, B / tokens ** beta];
export const loss = (law, parameters, tokens) => parts(law, parameters, tokens).reduce((sum, x) => sum + x);
/** Parameters and tokens of the least loss where 6 parameters tokens = flops. */
export function best([, , A, B, alpha, beta], flops) {
  const exponent = 1 / (alpha + beta), parameters = ((alpha * A) / (beta * B)) ** exponent * (flops / 6) ** (beta * exponent);
  return [parameters, flops / (6 * parameters)];
}

export const BUDGETS = [18, 26], SIZES = [6, 13], TEXTS = [8, 16];       // powers of ten: what the sliders and the axes reach
export function check({ laws, models }) {
  if (!laws.length || laws.length > 4) throw new RangeError(`there may be 1 to 4 laws, got ${laws.length}`);
  for (const [kind, rows, size] of [["law", laws, 5], ["model", models, 2]])
    for (const [name, ...values] of rows)
      if (values.length !== size || values.some((x) => !(Number.isFinite(x) && x > 0))) throw new RangeError(`the ${kind} ${name} must have ${size} numbers above 0, got ${values.join(", ")}`);
}

function draw({ body, data, get, index, put, on }) {
  check(data);
  const { laws, models } = data, law = () => laws[index("law", laws.length)], axis = () => index("axis", 2);
  const between = (key, [low, high]) => { const x = Number(get(key)); return clamp(Number.isFinite(x) ? x : low, low, high); };
  const budget = () => between("budget", BUDGETS), size = () => between("size", SIZES);
  const low = Math.floor(10 * Math.min(...laws.map(([, E]) => E))) / 10, high = low + 2;
  const ends = () => [SIZES, TEXTS][axis()];
  const across = (flops, parameters) => (Math.log10(axis() ? flops / (6 * parameters) : parameters) - ends()[0]) / (ends()[1] - ends()[0]);
  const under = (x, flops) => { const there = 10 ** (ends()[0] + x * (ends()[1] - ends()[0])); return axis() ? flops / (6 * there) : there; };
  const down = (x) => (high - x) / (high - low);

  const pick = choice("Law", laws.map(([name]) => name), (n) => put("law", n)), view = choice("Across", ["parameters", "tokens"], (n) => put("axis", n));
  const money = slider("Budget", { min: BUDGETS[0], max: BUDGETS[1], step: 0.05, says: (x) => `${power(10 ** x)} FLOPs`, oninput: (x) => put("budget", x) });
  const large = slider("Model", { min: SIZES[0], max: SIZES[1], step: 0.02, says: (x) => `${amount(10 ** x)} parameters`, oninput: (x) => put("size", x) });
  const jump = button("Take the best size", () => put("size", Math.log10(best(law(), 10 ** budget())[0])));
  const known = models.map(([name, parameters, tokens]) => button(name, () => { put("budget", Math.log10(6 * parameters * tokens)); put("size", Math.log10(parameters)); }));
  const svg = e("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" }), rules = e("div"), at = e("span.live-dot"), goal = e("span.live-dot.live-goal");
  const chart = e("div.live-chart.live-fall", { "aria-hidden": "true" }, rules, svg, goal, at), bottom = e("p.live-axis", { "aria-hidden": "true" });
  const title = e("p.live-title"), says = readout(), strip = [0, 1, 2].map((n) => e(`span.live-role-${n}`)), names = ["what no model gets below", "too few parameters", "too few tokens"];
  const shares = names.map((_, n) => e("span", {}, e(`i.live-key.live-role-${n}`), "")), facts = e("p.live-facts");
  const table = numbers("The best sizes for other budgets, as a table", () => ({ head: ["FLOPs", ...laws.flatMap(([name]) => [`${name}: parameters`, "tokens", "loss"])],
    rows: Array.from({ length: BUDGETS[1] - BUDGETS[0] + 1 }, (_, n) => 10 ** (BUDGETS[0] + n)).map((flops) => [power(flops), ...laws.flatMap((one) => { const [n, d] = best(one, flops); return [amount(n), amount(d), loss(one, n, d).toFixed(3)]; })]) }));
  body.append(e("div.live-controls", {}, pick.node, view.node), e("div.live-controls.live-turns", {}, money.node, large.node), e("div.live-controls", {}, jump, ...known),
    e("div.live-panel.live-budgets", {}, e("span.live-panel-name", {}, "Loss of models that cost the same to train"), chart, bottom,
      e("p.live-scale.live-legend", { "aria-hidden": "true" }, ...[["live-key-line", "your budget"], ["live-key-line.live-thin", "10, 100, … times more or less"], ["live-goal", "the best size"], ["live-mine", "your model"]].map(([kind, text]) => e("span", {}, e(`i.live-key.${kind}`), text)))),
    e("div.live-box", {}, title, e("div.live-stack", { "aria-hidden": "true" }, ...strip), e("p.live-scale.live-legend", {}, ...shares), facts, says.node), table.node);

  /** A finger or a pressed pointer on the chart chooses the size that is under it. */
  function point(event) {
    const place = chart.getBoundingClientRect();
    put("size", clamp(Math.log10(under(clamp((event.clientX - place.left) / place.width, 0, 1), 10 ** budget())), ...SIZES));
  }
  chart.addEventListener("pointerdown", point);
  chart.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });

  /** The curve of a budget as points, without those above the chart. */
  const curve = (flops) => Array.from({ length: 201 }, (_, i) => { const x = i / 200, n = under(x, flops); return [x, down(loss(law(), n, flops / (6 * n)))]; })
    .filter(([, y]) => y > -0.1).map(([x, y]) => `${x},${y.toFixed(4)}`).join(" ");
  const line = (kind, points) => e(`polyline.${kind}`, { points, "vector-effect": "non-scaling-stroke" });
  const stand = (dot, x, y) => { Object.assign(dot.style, { left: `${100 * clamp(x, 0, 1)}%`, top: `${100 * clamp(y, 0, 1)}%` }); dot.hidden = x < 0 || x > 1 || y < 0; };
  function paint() {
    const flops = 10 ** budget(), parameters = 10 ** size(), tokens = flops / (6 * parameters), [n, d] = best(law(), flops), least = loss(law(), n, d), mine = loss(law(), parameters, tokens), split = parts(law(), parameters, tokens);
    pick.set(index("law", laws.length));
    view.set(axis());
    money.set(budget());
    large.set(size());
    const every = Array.from({ length: BUDGETS[1] - BUDGETS[0] + 1 }, (_, k) => 10 ** (BUDGETS[0] + k));
    svg.replaceChildren(...every.map((one) => line("live-thin", curve(one))), line("live-path", every.map((one) => { const [m, t] = best(law(), one); return `${across(one, m)},${down(loss(law(), m, t))}`; }).join(" ")), line("live-now", curve(flops)));
    rules.replaceChildren(...[0, 0.5, 1, 1.5, 2].map((x) => e("span.live-rule", { style: `bottom: ${50 * x}%` }, e("span", {}, (low + x).toFixed(1)))));
    bottom.replaceChildren(...[power(10 ** ends()[0]), ["parameters", "tokens"][axis()], power(10 ** ends()[1])].map((text) => e("span", {}, text)));
    stand(goal, across(flops, n), down(least));
    stand(at, across(flops, parameters), down(mine));
    title.textContent = `Your model: loss ${mine.toFixed(3)}, the best ${least.toFixed(3)}`;
    split.forEach((x, k) => { strip[k].style.inlineSize = `${(100 * x) / mine}%`; shares[k].lastChild.data = `${names[k]} ${x.toFixed(3)}`; });
    facts.replaceChildren(...[["it has", `${amount(parameters)} parameters`], ["it reads", `${amount(tokens)} tokens`], ["for each parameter", `${digits(tokens / parameters)} tokens`], ["at the best size", `${digits(d / n)} tokens`]].flatMap(([name, value]) => [e("span", {}, name), e("strong", {}, value)]));
    says.say(null, `With ${power(flops)} FLOPs, the best size is ${amount(n)} parameters on ${amount(d)} tokens.`);
    table.refresh();
  }
  on("law axis budget size", paint);
  paint();
}

export default figure("scaling_laws", ["laws", "models"], draw);
