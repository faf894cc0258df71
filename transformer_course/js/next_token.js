// From logits to the next token: temperature and top-k change the probabilities, and a draw picks a token.
// State: contexts (texts), tokens, logits[context][token]; keeps (numbers of tokens that may be kept); random (numbers from 0 to 1, one
// for each draw); context, temperature, keep (0: all, else the place in keeps plus 1), draws (chosen).

import { bar, button, choice, clamp, count, e, expect, figure, fixed, numbers, plural, readout, slider, total, visible } from "./lib.js";

/** The places of the logits, largest first; among equals the first comes first. */
export const order = (logits) => logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
/** The probabilities of logits in falling order at a temperature, when the first `keep` may be drawn; at 0 the first takes all. */
export function probabilities(logits, temperature, keep = logits.length) {
  const raised = logits.map((x, i) => (i >= keep ? 0 : temperature ? Math.exp((x - logits[0]) / temperature) : +(i === 0)));
  return raised.map((x) => x / total(raised));
}
/** The perplexity: how many equally likely tokens would be as uncertain. */
export const perplexity = (shares) => Math.exp(-total(shares.map((p) => (p ? p * Math.log(p) : 0))));
/** Where a number from 0 to 1 falls when the shares lie one after the other. */
export function pick(shares, number) {
  let sum = 0;
  const found = shares.findIndex((p) => (sum += p) > number);
  return found < 0 ? shares.findLastIndex((p) => p > 0) : found;
}

export function check({ contexts, tokens, logits, keeps, random }) {
  if (!contexts.length || !tokens.length) throw new RangeError("there are no contexts or no tokens");
  if (tokens.length > 512) throw new RangeError(`${count(tokens.length)} tokens are too many for this figure; the most is 512`);
  expect("the logits", logits, contexts.length, tokens.length);
  if (keeps.some((k) => !Number.isInteger(k) || k < 1)) throw new RangeError(`top-k must be a whole number from 1, got ${keeps.join(", ")}`);
  if (!random.length || random.some((u) => !(u >= 0 && u < 1))) throw new RangeError("the random numbers must lie from 0 to 1");
}

const LISTED = 8;
const percent = (p) => (p && p < 0.001 ? "<0.1" : fixed(p * 100, 1));

function draw({ body, data, get, index, put, on }) {
  check(data);
  const { contexts, logits, keeps, random } = data, tokens = data.tokens.map(visible);
  const context = () => index("context", contexts.length), drawn = () => clamp(get("draws") | 0, 0, random.length);
  const temperature = () => (Number.isFinite(get("temperature")) ? clamp(get("temperature"), 0, 3) : 1);
  const keep = () => [tokens.length, ...keeps][index("keep", keeps.length + 1)];
  const listed = Math.min(LISTED, tokens.length), others = tokens.length - listed;

  const pickContext = choice("Context", contexts.map(visible), (n) => put("context", n));
  const heat = slider("Temperature", { max: 3, step: 0.1, says: (t) => fixed(t, 1), oninput: (t) => put("temperature", t) });
  const pickKeep = choice("Top-k", ["all", ...keeps.map(count)], (n) => put("keep", n));
  const text = e("span"), next = e("span.live-word.live-new"), caret = e("span.live-caret", { "aria-hidden": "true" });
  const lines = Array.from({ length: listed + +(others > 0) }, () => ({ name: e("span.live-bar-name"), logit: e("span.live-number"), bar: bar(), share: e("span.live-number"), times: e("span.live-number") }));
  const head = e("p.live-bars.live-odds", { "aria-hidden": "true" }, ...["token", "logit", "", "percent", "drawn"].map((name) => e("span", {}, name)));
  const list = e("ol.live-bars.live-odds", {}, ...lines.map((line) => e("li", {}, line.name, line.logit, line.bar.node, line.share, line.times)));
  const says = readout(), told = readout();
  const strip = e("div.live-strip", { "aria-hidden": "true" }), needle = e("span.live-needle");
  const segments = lines.map((_, i) => e(i < listed ? "span" : "span.live-rest"));
  strip.append(...segments, needle);
  const more = button("Draw a token", () => put("draws", drawn() + 1)), many = button("Draw 10", () => put("draws", Math.min(drawn() + 10, random.length)));
  const again = button("Start again", () => put("draws", 0));
  more.classList.add("live-first");
  const row = e("p.live-drawn");
  const table = numbers("All probabilities as a table", () => {
    const places = order(logits[context()]), shares = probabilities(places.map((i) => logits[context()][i]), temperature(), keep());
    return { head: ["token", "logit", "probability"], rows: places.map((i, n) => [tokens[i], fixed(logits[context()][i], 2), fixed(shares[n], 4)]) };
  });
  body.append(...(contexts.length > 1 ? [pickContext.node] : []), e("div.live-controls", {}, heat.node, ...(keeps.length ? [pickKeep.node] : [])),
    e("p.live-text", {}, text, next, caret), e("div.live-panel", {}, head, list), says.node,
    e("div.live-panel", {}, strip, e("div.live-controls", {}, e("div.live-player", {}, more, many, again), told.node), row), table.node);

  function show() {
    const t = temperature(), scores = logits[context()], places = order(scores), shares = probabilities(places.map((i) => scores[i]), t, keep());
    const found = random.slice(0, drawn()).map((u) => pick(shares, u)), rest = total(shares.slice(listed)), last = found.at(-1);
    pickContext.set(context());
    pickKeep.set(index("keep", keeps.length + 1));
    heat.set(t);
    text.textContent = contexts[context()];
    next.textContent = found.length ? tokens[places[last]] : "";
    caret.hidden = found.length > 0;
    lines.forEach((line, i) => {
      const share = i < listed ? shares[i] : rest, times = found.filter((n) => (i < listed ? n === i : n >= listed)).length;
      line.name.textContent = i < listed ? tokens[places[i]] : plural(others, "other");
      line.logit.textContent = i < listed ? fixed(scores[places[i]], 2) : "";
      line.bar.set(share);
      line.share.textContent = percent(share);
      line.times.textContent = times || "";
      segments[i].style.flexGrow = share;
      segments[i].textContent = share > 0.05 ? (i < listed ? tokens[places[i]] : share > 0.15 ? "others" : "…") : "";
      segments[i].classList.toggle("live-at", found.length > 0 && (i < listed ? last === i : last >= listed));
    });
    const hidden = tokens.length - keep(), likely = fixed(perplexity(shares), 1);
    says.say(null, t ? `Each logit is divided by ${fixed(t, 1)}, then softmax makes probabilities. ` : "At temperature 0 the largest logit takes everything. ",
      ...(hidden > 0 ? [`All but the ${plural(keep(), "most probable token")} are left out. `] : []), "Perplexity ", e("strong", {}, likely), likely === "1.0" ? ": there is nothing to choose." : `: as uncertain as a fair choice among ${likely} tokens.`);
    needle.hidden = !found.length;
    needle.style.insetInlineStart = `${(random[found.length - 1] ?? 0) * 100}%`;
    told.say(null, found.length ? `Draw ${found.length}: the random number ${fixed(random[found.length - 1], 3)} falls on “${tokens[places[last]]}”.`
      : "A random number from 0 to 1 falls on one of the pieces.");
    row.replaceChildren(...(found.length ? [e("span", {}, "Drawn:"), ...found.map((n) => e("span.live-word", {}, tokens[places[n]]))] : ["The random numbers are the same each time: draw some, then change the temperature."]));
    more.disabled = many.disabled = found.length === random.length;
    again.disabled = !found.length;
    table.refresh();
  }
  on("context temperature keep draws", show);
  show();
}

export default figure("next_token", ["contexts", "tokens", "logits", "keeps", "random"], draw);
