// A model as boxes: what each part is for, the shapes of what goes in and out, and its parameters.
// State: views [{name, parameters, view_box, boxes, lines, texts, frames}], parts {id: {name, says, takes, gives, parameters, times}};
// view, part (chosen). A box is {part, label, kind, x, y, w, h}, a line {points, kind, head}, a text [words, x, y].

import { choice, clamp, count, e, figure, numbers, plural, readout } from "./lib.js";

/** The parameters of a part, and of all its copies. */
export const cost = ({ parameters, times }) => (!parameters ? "none of its own" : times > 1 ? `${count(parameters)} in each of ${times} blocks, ${count(parameters * times)} in all` : count(parameters));
/** The box where an arrow key leads from a box: the nearest in that direction, or the box itself. */
export function towards(boxes, from, key) {
  const [right, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] ?? [0, 0];
  if (key === "Home") return 0;
  if (key === "End") return boxes.length - 1;
  if (!right && !down) return null;
  const at = ({ x, y, w, h }) => [x + w / 2, y + h / 2], [x, y] = at(boxes[from]);
  const far = boxes.map((box) => {
    const [dx, dy] = [at(box)[0] - x, at(box)[1] - y], ahead = dx * right + dy * down, aside = Math.abs(dx * down) + Math.abs(dy * right);
    return ahead > 1 ? ahead + 3 * aside : Infinity;
  });
  const best = far.indexOf(Math.min(...far));
  return far[best] < Infinity ? best : from;
}

export function check({ views, parts }) {
  if (!Array.isArray(views) || !views.length) throw new RangeError("there are no views of the model");
  for (const { name, boxes, view_box: size, lines } of views) {
    if (!boxes?.length) throw new RangeError(`the view “${name}” has no boxes`);
    const lost = boxes.find(({ part }) => !parts?.[part]);
    if (lost) throw new RangeError(`the view “${name}” has a box for “${lost.part}”, of which nothing is known`);
    const wrong = [...size, ...boxes.flatMap(({ x, y, w, h }) => [x, y, w, h]), ...lines.flatMap(({ points }) => points.flat())].find((x) => !Number.isFinite(x));
    if (wrong !== undefined) throw new RangeError(`places must be numbers, got ${wrong}`);
  }
}

/** A line through points, and the tip of its arrow. */
function way({ points, kind, head }) {
  const [[x0, y0], [x, y]] = points.slice(-2), long = Math.hypot(x - x0, y - y0) || 1, [ux, uy] = [(x - x0) / long, (y - y0) / long];
  const end = head ? [x - 5 * ux, y - 5 * uy] : [x, y], name = kind ? `.live-${kind}` : "";
  const side = (s) => `${x - 8 * ux - s * 4.5 * uy} ${y - 8 * uy + s * 4.5 * ux}`;
  return [e(`polyline.live-way${name}`, { points: [...points.slice(0, -1), end].join(" ") }),
    ...(head ? [e(`path.live-tip-of${name}`, { d: `M ${x} ${y} L ${side(1)} L ${side(-1)} Z` })] : [])];
}

function draw({ body, data, get, index, put, on }) {
  check(data);
  const { views, parts } = data;
  const view = () => views[index("view", views.length)];
  const pick = choice("View", views.map(({ name }) => name), (n) => put("view", n));
  const place = e("div.live-model"), title = e("p.live-title"), says = readout(), facts = e("p.live-facts"), sum = e("p.live-scale");
  const table = numbers("All parts as a table", () => ({ head: ["part", "in", "out", "parameters", "copies"],
    rows: [...new Set(view().boxes.map(({ part }) => part))].map((part) => parts[part]).map(({ name, takes, gives, parameters, times }) => [name, takes, gives, count(parameters), count(times)]) }));
  body.append(...(views.length > 1 ? [pick.node] : []),
    e("div.live-split", {}, place, e("div.live-side", {}, e("div.live-box", {}, title, says.node, facts), sum, e("p.live-scale.live-hint", {}, "Point at a part, or move between the parts with the arrow keys."))), table.node);
  let boxes = [], nodes = [], at = 0, look = null;

  /** The box of the chosen part; where it is drawn twice, the one that was chosen last. */
  function chosen() {
    if (boxes[at]?.part === get("part")) return at;
    const found = boxes.findIndex(({ part }) => part === get("part"));
    return found >= 0 ? found : Math.max(0, boxes.findIndex(({ kind }) => kind === "attention"));
  }
  const choose = (n) => { look = null; at = n; put("part", boxes[n].part); show(); };
  const under = (event) => { const n = nodes.indexOf(event.target.closest(".live-part-box")); return n < 0 ? null : n; };
  place.addEventListener("pointerover", (event) => { look = under(event); show(); });
  place.addEventListener("pointerleave", () => { look = null; show(); });
  place.addEventListener("click", (event) => { if (under(event) != null) choose(under(event)); });
  place.addEventListener("keydown", (event) => {
    const n = nodes.indexOf(event.target), to = n < 0 ? null : event.key === " " || event.key === "Enter" ? n : towards(boxes, n, event.key);
    if (to == null) return;
    event.preventDefault();
    choose(to);
    nodes[to].focus();
  });

  function paint() {
    const { name, view_box: size, lines, texts, frames, parameters } = view();
    boxes = view().boxes;
    nodes = boxes.map(({ part, label, kind, x, y, w, h }) => e(`g.live-part-box.live-${kind}`, { role: "radio", tabindex: -1, "aria-label": parts[part].name },
      e("rect", { x, y, width: w, height: h, rx: w === h ? w / 2 : 5 }), e("text", { x: x + w / 2, y: y + h / 2 }, label)));
    const copies = plural(Math.max(...Object.values(parts).map(({ times }) => times)), "block");
    place.replaceChildren(e("svg", { viewBox: size.join(" "), role: "radiogroup", "aria-label": `Parts of the ${name}`, style: `width: ${1.2 * size[2]}px` },
      ...frames.map(({ x, y, w, h }) => e("rect.live-frame", { x, y, width: w, height: h, rx: 8 })),
      ...lines.flatMap(way), ...texts.map(([words, x, y]) => e("text.live-frame-name", { x, y }, words)), ...nodes));
    pick.set(index("view", views.length));
    sum.textContent = `${name === "whole model" ? `Dashed: ${copies}, one after the other. The whole model` : `One ${name}`} has ${plural(parameters, "parameter")}.`;
    table.refresh();
    show();
  }
  function show() {
    const n = look ?? chosen(), part = parts[boxes[n].part];
    nodes.forEach((node, k) => {
      node.classList.toggle("live-now", k === n);
      node.setAttribute("aria-checked", String(k === chosen()));
      node.setAttribute("tabindex", k === chosen() ? 0 : -1);
    });
    title.textContent = part.name;
    says.say(null, part.says);
    facts.replaceChildren(...[["in", part.takes], ["out", part.gives], ["parameters", cost(part)]].flatMap(([name, value]) => [e("span", {}, `${name} `), e("strong", {}, value)]));
  }
  on("view", () => { look = null; paint(); });
  on("part", show);
  paint();
}

export default figure("model_map", ["views", "parts"], draw);
