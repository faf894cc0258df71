// How many steps must wait for one another: a recurrent network against a transformer, reading a text or writing one.
// State: longest, layers, seconds (measured: [length, RNN, transformer]); length, writing, step (the clock).

import { calm, choice, clamp, count, e, figure, numbers, player, plural, readout, slider } from "./lib.js";

/** The step, from 1, at which a layer has computed a token: the longest chain of things that it waits for. */
export function done(kind, writing, layer, token, layers) {
  if (writing) return token * layers + layer + 1;            // a token is read once the one before it is written, by all layers
  return kind === "RNN" ? token + layer + 1 : layer + 1;      // an RNN's state waits for that of the token before, attention waits for the layer below
}
export const steps = (kind, writing, length, layers) => done(kind, writing, layers - 1, length - 1, layers);
/** Pairs of tokens that attention compares in one layer: all with all, or each with those before it. */
export const pairs = (writing, length) => (writing ? length * (length + 1) / 2 : length * length);
/** The measurement whose length is nearest. */
export const nearest = (seconds, length) => seconds.reduce((best, one) => (!best || Math.abs(one[0] - length) < Math.abs(best[0] - length) ? one : best), null);
export function time(seconds) {
  const [unit, size] = seconds >= 1 ? ["s", 1] : seconds >= 1e-3 ? ["ms", 1e-3] : ["µs", 1e-6];
  return `${count(Number((seconds / size).toPrecision(2)))} ${unit}`;
}
/** Under a minute from one end to the other, in separate frames for those who asked for less motion. */
export const pace = (last, still) => (still ? { wait: 1200, stride: Math.ceil(last / 8) } : { wait: clamp(6000 / last, 40, 700), stride: Math.max(1, Math.round(last * 40 / 6000)) });

const KINDS = ["RNN", "transformer"];

export function check({ longest, layers, seconds }) {
  for (const [what, number, most] of [["tokens", longest, 1024], ["layers", layers, 8]])
    if (!Number.isInteger(number) || number < 1 || number > most) throw new RangeError(`the number of ${what} must lie between 1 and ${count(most)}, got ${number}`);
  if (seconds.some((one) => one.length !== 3 || !one.every(Number.isFinite))) throw new RangeError("a measurement is a length and two times");
}

function draw({ body, data: { longest, layers, seconds }, get, put, on, later }) {
  check({ longest, layers, seconds });
  const length = () => clamp(get("length") | 0, 1, longest);
  const writing = () => !!get("writing");
  const last = () => Math.max(...KINDS.map((kind) => steps(kind, writing(), length(), layers)));
  const clock = () => clamp(get("step") | 0, 0, last());

  const mode = choice("Both models", ["read a text", "write a text"], (n) => { play.stop(); put("writing", n === 1); put("step", 1); });
  const size = slider("Tokens", { min: 1, max: longest, says: count, oninput: (n) => { play.stop(); put("length", n); put("step", Math.min(clock(), last())); } });
  const play = player({ last, at: clock, go: (n) => put("step", n), pace: () => pace(last(), calm()), later });
  const where = e("output.live-clock");
  const legend = e("p.live-scale", { "aria-hidden": "true" }, ...[["live-beats", "this step"], ["live-done", "done"], ["live-waits", "waiting"]].flatMap(([kind, says]) => [e(`i.live-key.live-beat.${kind}`), says]));
  const lanes = KINDS.map((kind) => {
    const said = e("p.live-news"), track = e("div.live-lane", { "aria-hidden": "true" });
    return { kind, said, track, cells: [], whole: e("div.live-panel", {}, e("p.live-panel-name", {}, kind), track, said) };
  });
  const says = readout();
  const table = numbers("Steps for other lengths, as a table", () => ({ head: ["tokens", ...KINDS.map((kind) => `${kind}: steps`), "pairs that the transformer compares"],
    rows: [...new Set([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].filter((n) => n < longest).concat(longest))].map((n) =>
      [count(n), ...KINDS.map((kind) => count(steps(kind, writing(), n, layers))), count(pairs(writing(), n) * layers)]) }));
  body.append(e("div.live-controls", {}, mode.node, size.node), e("div.live-controls", {}, play.node, where, legend), ...lanes.map(({ whole }) => whole), says.node, table.node);

  function layout() {
    mode.set(+writing());
    size.set(length());
    for (const lane of lanes) {
      lane.cells = Array.from({ length: layers }, () => Array.from({ length: length() }, () => e("i.live-beat")));
      lane.track.replaceChildren(...lane.cells.toReversed().map((row) => e("div", {}, ...row)));      // the first layer is the lowest
      lane.track.style.setProperty("--tokens", length());
      lane.track.classList.toggle("live-dense", length() > 48);
      lane.track.classList.toggle("live-chained", length() <= 48 && (writing() || lane.kind === "RNN"));
    }
    table.refresh();
    paint();
  }
  function paint() {
    const now = clock(), n = length();
    where.textContent = `Step ${count(now)}`;
    for (const { kind, cells, said } of lanes) {
      const all = steps(kind, writing(), n, layers);
      cells.forEach((row, layer) => row.forEach((cell, token) => {
        const at = done(kind, writing(), layer, token, layers);
        cell.className = `live-beat${at < now ? " live-done" : at === now ? " live-beats" : ""}`;
      }));
      said.textContent = now >= all ? `Done after ${plural(all, "step")}.` : `Step ${count(now)} of ${count(all)}: each waits for the one before.`;
    }
    const work = pairs(writing(), n) * layers, measured = nearest(seconds, n);
    const share = writing() ? "Both wait for every token that they write" : `The transformer's ${plural(steps("transformer", false, n, layers), "step")} ${layers === 1 ? "compares" : "compare"} ${plural(work, "pair")} of tokens at once`;
    says.say(null, `A step is not a second. ${share}, and how long a step takes depends on the machine.${measured ? ` Measured for ${plural(measured[0], "token")}: RNN ${time(measured[1])}, transformer ${time(measured[2])}.` : ""}`);
  }
  on("length writing", layout);
  on("step", paint);
  layout();
}

export default figure("timeline", ["longest", "layers", "seconds"], draw);
