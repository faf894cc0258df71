// The course's GPT as figures read with it: its parameters, which are loaded when a reader asks for them, and a text that changes.

import { button, count, e, readout } from "./lib.js";
import { emptyCache, read, unpack, windowStart } from "./transformer.js";

/** A text as a model reads it: `follow` reads what is new (without a cache: everything) and returns the number of operations. */
export function reader(model) {
  const cache = emptyCache(model);
  let window = [], seen = [], start = 0;
  return { model, forget: () => { window = []; }, seen: () => seen, window: () => window, follow(tokens, cached) {
    const begin = windowStart(tokens.length, model.config.max_len), next = tokens.slice(begin), before = cache.operations;
    const other = next.findIndex((token, i) => token !== window[i]), alike = begin !== start ? 0 : other < 0 ? next.length : other;
    const same = cached || alike === next.length ? alike : 0;
    cache.length = same;
    seen = [...seen.slice(0, same), ...next.slice(same).map((token) => read(model, cache, token))];
    [window, start] = [next, begin];
    return cache.operations - before;
  } };
}

/** The tokens of a text, and the characters in it that the model does not know. */
export function encode({ characters }, text) {
  const found = [...text].map((one) => [one, characters.indexOf(one)]);
  return { tokens: found.filter(([, token]) => token >= 0).map(([, token]) => token), unknown: [...new Set(found.filter(([, token]) => token < 0).map(([one]) => one))] };
}

/** The packed model: what a notebook has brought, or the script beside the figures of a page. */
function packed(version) {
  const there = () => globalThis.courseData?.page_model;
  return there() ? Promise.resolve(there()) : new Promise((done, failed) => {
    document.head.append(e("script", { src: `${globalThis.courseFolder}page_model.js?v=${version}`, onload: () => done(there()), onerror: () => failed(new Error("the file with its parameters can't be read")) }));
  });
}

/** A button that loads the model and hands it to `open`, and a line that says what is going on: {press, says}. */
export function loader({ bytes, digest }, open) {
  const says = readout(), press = button(`Load the model, ${count(Math.round(bytes / 1000))} kilobytes`, load);
  press.classList.add("live-first");
  async function load() {
    press.disabled = true;
    says.say(null, "Loading …");
    try {
      const model = unpack(await packed(digest));
      says.say(null);
      open(model);
    } catch (error) {
      press.disabled = false;
      says.say(null, `It could not be loaded: ${error.message}.`);
    }
  }
  return { press, says: says.node };
}
