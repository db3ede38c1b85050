"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // figures: the page holds data and layout, colours of text and grid follow the page's theme
  const charts = [];
  for (const script of document.querySelectorAll("script[data-for]")) {
    const place = document.getElementById(script.dataset.for);
    charts.push({ place, spec: JSON.parse(script.textContent) });
  }
  const themed = (axis) => ({
    automargin: true, gridcolor: colour("--line"), linecolor: colour("--soft"),
    zerolinecolor: colour("--line"), tickcolor: colour("--line"), ...axis,
    title: { standoff: 8, ...(axis || {}).title },
  });
  const drawCharts = () => {
    for (const { place, spec } of charts) {
      const layout = {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 8, r: 8, t: 12, b: 8 }, hovermode: "closest",
        font: { family: colour("--plain"), size: 12.5, color: colour("--ink") },
        hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"),
          font: { color: colour("--ink") } },
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
        ...spec.layout,
        xaxis: themed(spec.layout.xaxis), yaxis: themed(spec.layout.yaxis),
      };
      // the darkest colour of the palette would drown in a dark page
      const light = (value) => dark.matches && value === "#0072B2" ? "#4AA3DF" : value;
      const data = structuredClone(spec.data);
      for (const trace of data) {
        for (const part of [trace.marker, trace.line]) {
          if (part && part.color) part.color = light(part.color);
        }
      }
      for (const trace of data) {
        if (trace.marker && trace.marker.symbol === "circle-open") {
          trace.marker.color = colour("--ink");
        }
      }
      Plotly.react(place, data, layout, { responsive: true, displayModeBar: false });
    }
  };
  if (charts.length) drawCharts();

  // one legend for the figures that follow it, up to the next heading of its section
  for (const legend of document.querySelectorAll(".legend")) {
    const own = [];
    for (let next = legend.nextElementSibling; next; next = next.nextElementSibling) {
      if (/^H[2-4]$/.test(next.tagName)) break;
      for (const place of next.querySelectorAll(".chart")) {
        own.push(charts.find((chart) => chart.place === place));
      }
    }
    const traces = (method) => own.flatMap(({ spec }) =>
      spec.data.filter((trace) => trace.meta && trace.meta.method === method));
    for (const button of legend.children) {
      const method = button.dataset.method;
      const set = (shown) => button.setAttribute("aria-pressed", String(shown));
      set(traces(method).some((trace) => trace.visible !== false));
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        for (const trace of traces(method)) trace.visible = shown;
        set(shown);
        drawCharts();
      });
    }
  }

  // tables: a click on a title sorts, a second one turns the order round
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        const [m, n] = [Number(x), Number(y)];
        const order = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    }));
  }

  // crystals to turn
  const source = document.getElementById("crystal-data");
  let drawCrystal = () => {};
  if (source) {
    const crystals = JSON.parse(source.textContent);
    const place = document.getElementById("crystal");
    const buttons = [...document.querySelectorAll("[data-crystal]")];
    let viewer = null;
    try {
      viewer = $3Dmol.createViewer(place, { antialias: true });
    } catch (error) {
      viewer = null;
    }
    if (!viewer) {
      place.textContent = "This browser cannot draw crystals (it lacks WebGL).";
    } else {
      let current = 0;
      drawCrystal = () => {
        viewer.clear();
        viewer.setBackgroundColor(colour("--paper"));
        const model = viewer.addModel(crystals[current].cif, "cif",
          { doAssembly: true, duplicateAssemblyAtoms: true, normalizeAssembly: true });
        viewer.addUnitCell(model, { box: { color: colour("--soft") },
          alabel: "", blabel: "", clabel: "" });
        viewer.replicateUnitCell(2, 2, 2, model);
        const elements = [...new Set(model.selectedAtoms({}).map((atom) => atom.elem))];
        const table = $3Dmol.elementColors.Jmol;
        viewer.setStyle({}, { sphere: { scale: 0.32, colorscheme: "Jmol" } });
        viewer.zoomTo();
        viewer.rotate(20, "x");
        viewer.rotate(25, "y");
        viewer.render();
        const key = document.getElementById("elements");
        key.replaceChildren(...elements.map((element) => {
          const item = document.createElement("span");
          const dot = document.createElement("i");
          const number = table[element];
          dot.style.background = number === undefined
            ? "#ff1493" : "#" + number.toString(16).padStart(6, "0");
          item.append(dot, element);
          return item;
        }));
      };
      buttons.forEach((button) => button.addEventListener("click", () => {
        current = Number(button.dataset.crystal);
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        drawCrystal();
      }));
      drawCrystal();
    }
  }

  dark.addEventListener("change", () => {
    if (charts.length) drawCharts();
    drawCrystal();
  });
})();
