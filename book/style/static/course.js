// What the pages do by themselves: nothing here is needed to read one.

// A keyboard can scroll what is wider than its place.
function reachable() {
  for (const node of document.querySelectorAll(".bd-article :is(div.math, mjx-container[display=true], pre, .pst-scrollable-table-container)"))
    if (node.scrollWidth > node.clientWidth + 1) node.tabIndex = 0;
    else node.removeAttribute("tabindex");
}

// The contents list keeps the section that is being read in sight.
function follow() {
  const list = document.querySelector(".bd-sidebar-secondary");
  if (!list) return;
  new MutationObserver(() => {
    const active = [...list.querySelectorAll(".nav-link.active")].pop();
    if (!active) return;
    const [box, seen] = [active.getBoundingClientRect(), list.getBoundingClientRect()];
    if (box.top < seen.top + 40 || box.bottom > seen.bottom - 40) list.scrollTop += box.top - seen.top - seen.height / 2;
  }).observe(list, { subtree: true, attributes: true, attributeFilter: ["class"] });
}

addEventListener("DOMContentLoaded", follow);
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  reachable();
  addEventListener("resize", reachable);
});
