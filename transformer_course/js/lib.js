// What the figures share. A figure says `import { … } from "./lib.js"`, and `module` in interactive.py puts this text in the
// place of that line: a page, a kernel and Colab get one module that imports nothing.

export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
export const count = (x) => x.toLocaleString("en");
/** A number with a true minus sign and a fixed number of digits, so that columns of them line up. */
export const fixed = (x, digits) => x.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
/** A token as a reader can see it: line ends, tabs and the blanks around it become visible. */
export const visible = (token) => token === "" ? "(empty)"
  : token.replaceAll("\n", "\\n").replaceAll("\t", "\\t").replace(/^ +| +$/g, (blanks) => "·".repeat(blanks.length));
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
export const total = (numbers) => numbers.reduce((sum, x) => sum + x, 0);
/** The largest size, without its sign; 1 if all are zero, so that one can divide by it. */
export const largest = (numbers) => numbers.reduce((most, x) => Math.max(most, Math.abs(x)), 0) || 1;

/** Where a key leads from cell [i, j] of a grid; null if the key is none of the grid's. */
export function move([i, j], { key, ctrlKey = false, metaKey = false }, rows, columns) {
  const far = ctrlKey || metaKey;
  const to = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1],
    Home: [far ? 0 : i, 0], End: [far ? rows - 1 : i, columns - 1] }[key];
  return to ? [clamp(to[0], 0, rows - 1), clamp(to[1], 0, columns - 1)] : null;
}

/** Refuse a matrix of another size, or one that holds something else than numbers, and say both sides. */
export function expect(what, matrix, rows, columns) {
  const wide = Array.isArray(matrix) && matrix.find((row) => !Array.isArray(row) || row.length !== columns);
  if (!Array.isArray(matrix) || matrix.length !== rows || wide)
    throw new RangeError(`${what} must be ${rows} × ${columns}, got ${matrix?.length ?? "no"} rows${wide ? `, one of ${wide.length ?? "no"} numbers` : ""}`);
  const wrong = matrix.flat().find((x) => !Number.isFinite(x));
  if (wrong !== undefined) throw new RangeError(`${what} must be numbers, got ${wrong}`);
}

const DRAWN = new Set(["svg", "g", "rect", "path", "line", "circle", "polyline", "text"]);
const REACHED = new Set(["button", "input", "summary"]);
/** An element: `e("div.class", {attribute: value, onclick: f}, …children)`. Text is text, never markup. */
export function e(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = DRAWN.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes))
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  // JupyterLab moves between headings with the arrow keys unless the focused element itself says no
  if (REACHED.has(name) || "tabindex" in attributes) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children);
  return node;
}

/**
 * A figure in anywidget's front-end contract. `draw({body, data, get, index, put, on, later})` fills `body` from what the
 * keys in `shows` hold, and runs again when one of them changes. `put` changes the state (Python sees it where there is a
 * kernel), `index` reads a choice among `size` and brings it back into range, `on` listens to keys, and what is handed to
 * `later` is called before the figure goes or is drawn again. An error becomes a message in the page.
 */
export function figure(name, shows, draw) {
  return {
    render({ model, el }) {
      const listen = (keys, f) => keys.map((key) => {
        model.on(`change:${key}`, f);
        return () => model.off(`change:${key}`, f);
      });
      const page = el.closest("[data-figure]");
      const [root, frameEars] = page ? [page, []] : frame(name, model, el, listen);
      const body = e("div.live-body");
      root.insertBefore(body, root.querySelector("figcaption"));
      const undo = [];
      const clear = () => undo.splice(0).forEach((f) => f());
      const state = {
        body,
        get: (key) => model.get(key),
        index: (key, size) => clamp(model.get(key) | 0, 0, size - 1),
        put: (key, value) => { model.set(key, value); model.save_changes(); },
        on: (keys, f) => undo.push(...listen(keys.split(" "), f)),
        later: (f) => undo.push(f),
      };
      const paint = () => {
        clear();
        body.replaceChildren();
        const data = Object.fromEntries(shows.map((key) => [key, model.get(key)]));
        try { draw({ ...state, data }); } catch (error) {
          clear();
          body.replaceChildren(e("p.live-message", { role: "alert" }, `This figure can't be drawn: ${error.message}.`));
        }
      };
      let waiting = false;
      const repaint = () => {                       // several keys may change at once
        if (!waiting) queueMicrotask(() => { waiting = false; paint(); });
        waiting = true;
      };
      const ears = [...frameEars, ...listen(shows, repaint)];
      paint();
      root.dataset.ready = "";
      performance.mark(`figure ${name}`);
      return () => { clear(); ears.forEach((f) => f()); };
    },
  };
}

/** Where no page has written the figure's frame: a widget. */
function frame(name, model, el, listen) {
  const words = e("p.live-words"), caption = e("figcaption"), root = e("figure.live", { "data-figure": name }, words, caption);
  const say = () => { words.textContent = model.get("words"); caption.textContent = model.get("caption"); };
  el.append(root);
  say();
  return [root, listen(["words", "caption"], say)];
}

/** One of several, as native radio buttons: {node, chips, set}. */
export function choice(label, options, onpick, { named = true } = {}) {
  const name = `live-${Math.random().toString(36).slice(2)}`;
  const inputs = options.map((text, i) => e("input", { type: "radio", name, onchange: () => onpick(i) }));
  const chips = inputs.map((input, i) => e("label.live-chip", {}, input, e("span", {}, options[i])));
  const node = e("div.live-choice", { role: "radiogroup", "aria-label": label }, ...(named ? [e("span.live-label", { "aria-hidden": "true" }, label)] : []), ...chips);
  return { chips, node, set: (i) => { inputs[i].checked = true; } };
}

/** Something that is on or off, as a native checkbox: {node, set}. */
export function toggle(label, onpick) {
  const input = e("input", { type: "checkbox", role: "switch", onchange: () => onpick(input.checked) });
  return { node: e("label.live-chip.live-switch", {}, input, e("span", {}, label)), set: (on) => { input.checked = on; } };
}

/** A native range with its name and its value in words: {node, input, set}. */
export function slider(label, { min = 0, max, step = 1, says = String, oninput }) {
  const out = e("output");
  const input = e("input", { type: "range", min, max, step, oninput: () => { set(+input.value); oninput(+input.value); } });
  const name = e("span", {}, label);
  const set = (value) => {
    input.value = value;
    out.textContent = says(value);
    input.setAttribute("aria-valuetext", says(value));
  };
  return { input, set, name, node: e("label.live-slider", {}, name, input, out) };
}

const ICONS = { back: "M11 2 4 8l7 6z", play: "M4 2v12l9-6z", pause: "M3 2h4v12H3zM9 2h4v12H9z", next: "M5 2l7 6-7 6z", first: "M3 2h2v12H3zM14 2v12L6 8z" };
const icon = (name) => e("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, e("path", { d: ICONS[name] }));
export const button = (text, onclick, drawn) => e("button.live-button", { type: "button", onclick, "aria-label": drawn ? text : false }, drawn ? icon(drawn) : text);

/** Steps that a reader plays: it never starts by itself and stops when out of sight. `pace` gives milliseconds and stride. */
export function player({ last, at, go, pace, later }) {
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; show(); };
  const start = () => {
    if (at() >= last()) go(0);
    const { wait, stride } = pace();
    timer = setInterval(() => { go(Math.min(at() + stride, last())); if (at() >= last()) stop(); }, wait);
    show();
  };
  const by = (steps) => () => { stop(); go(clamp(at() + steps, 0, last())); };
  const back = button("One step back", by(-1), "back"), next = button("One step on", by(1), "next"), play = button("Play", () => (timer ? stop() : start()), "play");
  const show = () => {
    play.replaceChildren(icon(timer ? "pause" : "play"));
    play.setAttribute("aria-label", timer ? "Pause" : "Play");
  };
  const node = e("div.live-player", { role: "group", "aria-label": "Steps" }, button("Back to the start", by(-Infinity), "first"), back, play, next);
  const seen = new IntersectionObserver(([entry]) => { if (!entry.isIntersecting && timer) stop(); });
  seen.observe(node);
  later(() => { clearInterval(timer); seen.disconnect(); });
  return { node, stop };
}

/**
 * A matrix of cells with names, an ARIA grid: one stop for Tab, arrow keys move inside. `onlook([i, j])` follows the
 * pointer (`j` is null on a row's name, the place is null when it leaves); `onchoose` is a click, a touch or a key.
 * Names of columns stand upright where they have more letters than there is `room` for.
 */
export function grid({ label, corner = "", rows, columns, room = 3, onlook = () => {}, onchoose = () => {} }) {
  const places = new Map();
  const names = rows.map((name, i) => place(e("div.live-row-name", { role: "rowheader" }, e("span", {}, name)), i, null));
  const heads = columns.map((name) => e("div.live-column-name", { role: "columnheader" }, e("span", {}, name)));
  const cells = rows.map((_, i) => columns.map((_, j) => place(e("div.live-cell", { role: "gridcell", tabindex: -1 }), i, j)));
  const head = e("div.live-row", { role: "row" }, e("div.live-corner", { role: "columnheader" }, e("span", {}, corner)), ...heads);
  const node = e("div.live-grid", { role: "grid", "aria-label": label, style: `--columns: ${columns.length}` }, head,
    ...cells.map((row, i) => e("div.live-row", { role: "row" }, names[i], ...row)));
  if (columns.some((name) => name.length > room)) node.classList.add("live-upright");
  let at = [0, 0];

  function place(element, i, j) { places.set(element, [i, j]); return element; }
  const under = (event) => {
    const target = event.pointerType === "touch" ? document.elementFromPoint(event.clientX, event.clientY) : event.target;
    return places.get(target?.closest(".live-cell, .live-row-name")) ?? null;
  };
  node.addEventListener("pointerover", (event) => { const to = under(event); if (to) onlook(to); });
  node.addEventListener("pointermove", (event) => { if (event.pointerType === "touch" && under(event)) onchoose(under(event)); });
  node.addEventListener("pointerleave", () => onlook(null));
  node.addEventListener("click", (event) => { const to = under(event); if (to) onchoose(to); });
  node.addEventListener("keydown", (event) => {
    const to = event.target.closest(".live-cell") && move(at, event, rows.length, columns.length);
    if (!to) return;
    event.preventDefault();
    onchoose(to);
    set(to);
    cells[to[0]][to[1]].focus();
  });
  /** Mark the chosen cell, its row and its column. */
  function set([i, j]) {
    cells[at[0]][at[1]].tabIndex = -1;
    at = [clamp(i, 0, rows.length - 1), clamp(j ?? 0, 0, columns.length - 1)];
    cells[at[0]][at[1]].tabIndex = 0;
    mark([i, j]);
  }
  function mark([i, j]) {
    names.forEach((name, n) => name.classList.toggle("live-on", n === i));
    heads.forEach((name, n) => name.classList.toggle("live-on", n === j));
    cells.forEach((row, n) => row.forEach((cell, m) => cell.classList.toggle("live-at", n === i && m === j)));
  }
  set(at);
  return { node, cells, names, heads, set, mark };
}

/** Colour a cell by a number from -1 to 1 and say it. */
export function tint(cell, number, said, shown = "") {
  cell.style.setProperty("--amount", `${Math.round(Math.min(Math.abs(number), 1) * 100)}%`);
  cell.classList.toggle("live-below", number < 0);
  cell.replaceChildren(...(shown ? [e("span", {}, shown)] : []));
  cell.setAttribute("aria-label", said);
}

/** A bar that is filled by a share from 0 to 1: {node, set}. */
export function bar() {
  const filled = e("span.live-bar");
  return { node: e("span.live-track", { "aria-hidden": "true" }, filled), set: (share) => { filled.style.inlineSize = `${share * 100}%`; } };
}

/** A small heat map without numbers: {node, set}; `set(matrix, top)`. An image that the theme's colour shines through. */
export function thumbnail() {
  const ink = e("span"), node = e("span.live-thumb", { "aria-hidden": "true" }, ink);
  return { node, set(matrix, top) {
    const size = Math.max(1, Math.round(64 / matrix.length)), canvas = e("canvas", { width: matrix[0].length * size, height: matrix.length * size });
    const pen = canvas.getContext("2d");
    matrix.forEach((row, i) => row.forEach((x, j) => { pen.globalAlpha = clamp(x / top, 0, 1); pen.fillRect(j * size, i * size, size, size); }));
    ink.style.maskImage = `url(${canvas.toDataURL()})`;
    node.style.aspectRatio = `${matrix[0].length} / ${matrix.length}`;
  } };
}

/** The numbers as a table, made when a reader asks for it: {node, refresh}. `make` gives {head, rows}. */
export function numbers(title, make) {
  const place = e("div.live-scroll", { tabindex: 0, role: "region", "aria-label": title });
  const node = e("details.live-table", { ontoggle: () => refresh() }, e("summary", {}, title), place);
  const refresh = () => {
    if (!node.open) return;
    const { head, rows } = make();
    place.replaceChildren(e("table", {}, e("thead", {}, e("tr", {}, ...head.map((name) => e("th", { scope: "col" }, name)))),
      e("tbody", {}, ...rows.map(([name, ...cells]) => e("tr", {}, e("th", { scope: "row" }, name), ...cells.map((cell) => e("td", {}, cell)))))));
  };
  return { node, refresh };
}

/** A sentence that screen readers hear when it changes; silent while the focus is in `inside`, which speaks for itself. */
export function readout() {
  const node = e("p.live-says", { "aria-live": "polite" });
  return { node, say(inside, ...text) {
    node.setAttribute("aria-live", inside?.contains(document.activeElement) ? "off" : "polite");
    node.replaceChildren(...text);
  } };
}
