// A page without a kernel: gives each figure the model that a Jupyter kernel would give it, and mounts it.

/** The part of anywidget's model that figures use. */
export class Model {
  #state; #ears = new Map();
  constructor(state) { this.#state = { ...state }; }
  get(key) { return this.#state[key]; }
  set(key, value) {
    if (Object.is(this.#state[key], value)) return;
    this.#state[key] = value;
    for (const f of [...(this.#ears.get(`change:${key}`) ?? [])]) f();
  }
  save_changes() {}
  on(name, f) { this.#ears.set(name, (this.#ears.get(name) ?? new Set()).add(f)); }
  off(name, f) { this.#ears.get(name)?.delete(f); }
}

/** Mount every figure of the page whose source, by name, is in `sources`. From a blob, because a page on disk can't import files. */
export function start(sources) {
  const load = (name) => import(URL.createObjectURL(new Blob([`${sources[name]}\n//# sourceURL=${name}.js`], { type: "text/javascript" })));
  const modules = {};
  return Promise.all([...document.querySelectorAll("[data-figure]:not([data-mounted])")].filter((root) => sources[root.dataset.figure]).map(async (root) => {
    root.dataset.mounted = "";
    const { default: figure } = await (modules[root.dataset.figure] ??= load(root.dataset.figure));
    root.model = new Model(JSON.parse(root.querySelector("script").textContent));      // for the console and for tests
    figure.render({ model: root.model, el: root });
  }));
}
