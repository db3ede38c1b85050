"use strict";
// menus and legends of figures: a trace is seen where its `meta` agrees with all choices
(() => {
  for (const set of document.querySelectorAll(".figure-set")) {
    const menus = [...set.querySelectorAll("select[data-show]")];
    const entries = [...set.querySelectorAll("button[data-hide]")];
    if (!menus.length && !entries.length) continue;
    const seen = ({ meta }) => !meta || (menus.every(({ dataset, value }) =>
      value === "" || !(dataset.show in meta) || [meta[dataset.show]].flat().some((own) => String(own) === value))
      && entries.every((entry) => entry.getAttribute("aria-pressed") === "true"
        || meta.family !== entry.dataset.hide));
    // the page draws a figure anew from its data, at first and in another theme
    set.addEventListener("matml:draw", ({ detail }) => {
      for (const trace of detail) if (trace.meta) trace.visible = seen(trace);
    });
    const apply = () => {
      const subject = menus.find(({ dataset }) => dataset.show === "subject");
      for (const part of set.querySelectorAll("[data-subject]")) {
        part.hidden = Boolean(subject && subject.value) && part.dataset.subject !== subject.value;
      }
      for (const place of set.querySelectorAll(".js-plotly-plot")) {
        if (place.closest("[hidden]")) continue;
        Plotly.restyle(place, { visible: place.data.map(seen) }).then(() => Plotly.Plots.resize(place));
      }
    };
    set.addEventListener("change", apply);
    for (const entry of entries) {
      entry.addEventListener("click", () => {
        entry.setAttribute("aria-pressed", String(entry.getAttribute("aria-pressed") !== "true"));
        apply();
      });
    }
    // a browser may keep what was chosen when the page is loaded again
    apply();
  }
})();
