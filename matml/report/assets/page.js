"use strict";
(() => {
  const root = document.documentElement;
  const at = (id) => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const dark = () => root.dataset.theme === "dark";

  // libraries stand in the page packed (gzip, base64), so that opening it does not wait for them
  const started = {};
  const start = (id) => started[id] ??= (async () => {
    const bytes = Uint8Array.from(atob(at(id).textContent), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(unpacked).text();
    document.head.append(script);
  })();

  const save = (name, text, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // ---- figures: drawn when they come near the view, in the colours of the page's theme
  const charts = all("script[data-for]").map((script) => (
    { place: at(script.dataset.for), spec: JSON.parse(script.textContent), drawn: false }));
  const coarse = matchMedia("(pointer: coarse)").matches;
  // the darkest colour of the palette would drown in a dark page
  const themed = (value) => {
    const text = JSON.stringify(value);
    return JSON.parse(!dark() ? text : text.replaceAll("#0072B2", "#4AA3DF")
      .replaceAll("rgba(0,114,178,", "rgba(74,163,223,"));
  };
  // Plotly lets a title run out of a narrow figure
  const wrapped = (text, letters) => text.split("<br>").map((line) => {
    const rows = [""];
    for (const word of line.split(" ")) {
      const longer = `${rows.at(-1)} ${word}`.trim();
      if (longer.length <= letters || !rows.at(-1)) rows[rows.length - 1] = longer;
      else rows.push(word);
    }
    return rows.join("<br>");
  }).join("<br>");
  const axis = (given, length) => {
    const title = { standoff: 8, ...(given || {}).title };
    // letters of 15 px are 8 px wide on average; ticks of the other axis take some of the length
    if (title.text) title.text = wrapped(title.text, Math.max(12, (length - 70) / 8));
    return {
      automargin: true, gridcolor: colour("--line"), linecolor: colour("--soft"),
      zerolinecolor: colour("--line"), tickcolor: colour("--line"), ...given, title,
    };
  };
  const draw = (chart) => {
    const { place, spec } = chart;
    const data = themed(spec.data);
    place.dispatchEvent(new CustomEvent("matml:draw", { bubbles: true, detail: data }));
    for (const trace of data) {
      if (trace.marker && trace.marker.symbol === "circle-open") trace.marker.color = colour("--ink");
    }
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 8, r: 8, t: 12, b: 8 }, hovermode: "closest",
      // a finger that scrolls the page must not zoom the figures
      dragmode: coarse ? false : "zoom",
      font: { family: colour("--plain"), size: 12.5, color: colour("--ink") },
      hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"),
        font: { color: colour("--ink") } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      ...themed(spec.layout),
    };
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(layout)])) {
      if (!/^[xy]axis\d*$/.test(name)) continue;
      layout[name] = axis(layout[name], name[0] === "x" ? place.clientWidth : place.clientHeight);
    }
    for (const menu of [...(layout.updatemenus || []), ...(layout.sliders || [])]) {
      menu.bgcolor ??= colour("--panel");
      menu.bordercolor ??= colour("--line");
    }
    Plotly.react(place, data, layout, { responsive: true, displayModeBar: false });
    if (!chart.drawn) tools(chart);
    chart.drawn = true;
  };
  const tools = ({ place }) => {
    const line = document.createElement("p");
    line.className = "tools";
    const title = place.getAttribute("aria-label").split(":")[0];
    const add = (words, action) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = words;
      button.setAttribute("aria-label", `${words}: ${title}`);
      button.addEventListener("click", action);
      line.append(button);
    };
    for (const format of ["svg", "png"]) {
      add(`Save ${format.toUpperCase()}`, () => Plotly.downloadImage(place,
        { format, filename: place.id, scale: format === "png" ? 3 : 1 }));
    }
    if (!coarse) add("Whole range", () => {
      const chart = charts.find((item) => item.place === place);
      Plotly.purge(place);
      draw(chart);
    });
    place.closest("figure").append(line);
  };
  const drawAll = async () => {
    // what is folded has no size to draw to
    for (const folded of all("details:not([open])")) folded.open = true;
    if (!charts.length) return;
    await start("plotly-code");
    charts.forEach(draw);
  };
  const redraw = () => charts.filter((chart) => chart.drawn).forEach(draw);
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      const chart = charts.find(({ place }) => place === target);
      start("plotly-code").then(() => chart.drawn || draw(chart));
    }
  }, { rootMargin: "500px 0px" });
  // those far from the view follow one by one
  const drawRest = async () => {
    const next = charts.find((chart) => !chart.drawn && chart.place.offsetParent);
    if (!next) return;
    await start("plotly-code");
    if (!next.drawn) draw(next);
    setTimeout(drawRest, 50);
  };
  addEventListener("load", () => {
    setTimeout(() => charts.forEach(({ place }) => watcher.observe(place)));
    setTimeout(drawRest, 2000);
  });
  addEventListener("beforeprint", drawAll);

  // ---- sections: a link to what is folded opens it, and the bar tells where one is
  const unfold = () => {
    const target = location.hash.length > 1 && at(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let part = target.querySelector(":scope > details") || target.closest("details");
    for (; part; part = part.parentElement.closest("details")) part.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  addEventListener("load", unfold);
  for (const link of all("a[href^='#']")) {
    link.addEventListener("click", () => { if (link.hash === location.hash) unfold(); });
  }
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const reader = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      const link = links.get(target.id);
      if (isIntersecting) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-20% 0px -79% 0px" });
  for (const name of links.keys()) reader.observe(at(name));

  // one legend for the figures that follow it, up to the next heading of its section
  for (const legend of all(".legend")) {
    const own = [];
    for (let next = legend.nextElementSibling; next; next = next.nextElementSibling) {
      if (/^H[2-4]$/.test(next.tagName)) break;
      for (const place of all(".chart", next)) own.push(charts.find((chart) => chart.place === place));
    }
    const traces = (method) => own.flatMap(({ spec }) =>
      spec.data.filter((trace) => trace.meta && [trace.meta.method].flat().includes(method)));
    for (const button of all("button[data-method]", legend)) {
      const method = button.dataset.method;
      const set = (shown) => button.setAttribute("aria-pressed", String(shown));
      set(traces(method).some((trace) => trace.visible !== false));
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        for (const trace of traces(method)) trace.visible = shown;
        set(shown);
        own.filter((chart) => chart.drawn).forEach(draw);
      });
    }
  }

  // ---- tables: a click on a title sorts, a second one turns the order round
  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        // what has no value stays last
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        const [m, n] = [Number(x), Number(y)];
        const order = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    }));
  };
  all("table.sortable").forEach(sortable);
  // a frame that scrolls must be reachable with the keyboard
  const frames = () => {
    for (const frame of all(".scroll")) {
      const scrolls = frame.scrollWidth > frame.clientWidth + 1
        || frame.scrollHeight > frame.clientHeight + 1;
      if (!scrolls) {
        for (const name of ["tabindex", "role", "aria-label"]) frame.removeAttribute(name);
        continue;
      }
      frame.tabIndex = 0;
      frame.setAttribute("role", "group");
      frame.setAttribute("aria-label", `${frame.querySelector("caption").textContent} (scrolls)`);
    }
  };
  addEventListener("resize", frames);
  document.addEventListener("toggle", frames, true);
  frames();

  // ---- shortlist: search and filter
  const table = at("shortlist-table");
  const filters = at("shortlist-filters");
  const rowsShown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const rankOf = (row) => Number(row.querySelector("[data-open]").dataset.open);
  if (table && filters) {
    const columns = Object.fromEntries(
      [...table.tHead.rows[0].cells].map((head, column) => [head.dataset.key, column]));
    const elements = (formula) => new Set(formula.match(/[A-Z][a-z]?/g));
    const symbols = new Set(all("[data-open]", table).flatMap((button) =>
      [...elements(button.textContent)]));
    // `Pb` asks for the element, `-Hg` for its absence, anything else for a part of the formula
    const found = (formula, text) => text.split(/[\s,]+/).filter(Boolean).every((word) => {
      const without = word.startsWith("-");
      const asked = without ? word.slice(1) : word;
      const has = symbols.has(asked) || /^[A-Z][a-z]?$/.test(asked)
        ? elements(formula).has(asked)
        : formula.toLowerCase().includes(asked.toLowerCase());
      return has !== without;
    });
    const passes = (row, { type, value, checked, dataset }) => {
      if (type === "checkbox" ? !checked : value.trim() === "") return true;
      const own = row.cells[columns[dataset.key]].dataset.value;
      if (own === undefined) return false;
      return { equals: () => value.split("|").includes(own), text: () => found(own, value),
        min: () => Number(own) >= Number(value), max: () => Number(own) <= Number(value),
      }[dataset.filter]();
    };
    const apply = () => {
      const given = all("[data-filter]", filters);
      const rows = [...table.tBodies[0].rows];
      for (const row of rows) row.hidden = !given.every((input) => passes(row, input));
      at("shortlist-count").textContent = `${rowsShown().length} of ${rows.length} candidates shown.`;
      frames();
    };
    filters.addEventListener("input", apply);
    filters.addEventListener("reset", () => setTimeout(apply));
    filters.addEventListener("submit", (event) => event.preventDefault());
    // a browser may keep what was typed when the page is loaded again
    apply();

    const held = JSON.parse(at("shortlist-data").textContent);
    for (const button of all("[data-save-csv]")) {
      button.addEventListener("click", () => {
        const rows = button.dataset.saveCsv === "shown"
          ? rowsShown().map((row) => held.rows[rankOf(row)]) : Object.values(held.rows);
        save("shortlist.csv", [held.head, ...rows, ""].join("\n"), "text/csv");
      });
    }
  }

  // ---- one candidate: its crystal, and why it ranks there
  const dialog = at("candidate");
  const source = at("crystal-data");
  const crystals = new Map((source ? JSON.parse(source.textContent) : [])
    .map((crystal) => [crystal.rank, crystal]));
  let current = null;
  let viewer = null;
  const vector = ([x, y, z]) => ({ x, y, z });
  const RADIUS = 0.38;
  // Jmol's colours, but of metals that it draws grey, which look alike once lit, and of elements
  // that come too near to another one of the crystal: these take a hue that none has
  const HUES = [0x56b4e9, 0xe69f00, 0xcc79a7, 0x009e73, 0xf0e442];
  const parts = (shade) => [16, 8, 0].map((bits) => (shade >> bits) & 255);
  const apart = (one, other) => Math.hypot(...parts(one).map((x, i) => x - parts(other)[i])) > 110;
  const paints = (elements) => {
    const found = new Map();
    const grey = (shade) => Math.max(...parts(shade)) - Math.min(...parts(shade)) < 40;
    const own = (element) => $3Dmol.elementColors.Jmol[element] ?? 0xff1493;
    const keeps = (element) => ["C", "H"].includes(element) || !grey(own(element));
    const free = (shade) => [...found.values()].every((used) => apart(shade, used));
    for (const element of [...elements].sort((p, q) => keeps(q) - keeps(p))) {
      const choices = keeps(element) ? [own(element), ...HUES] : [...HUES, own(element)];
      found.set(element, choices.find(free) ?? own(element));
    }
    return found;
  };
  // bonds and polyhedra of one cell, in all that are drawn; partners beyond the last cell are added
  const joined = (crystal, model, paint) => {
    const wanted = (part) => (at(`draw-${part}`).checked && crystal[part]) || [];
    at("drawn-parts").hidden = !(crystal.bonds || []).length;
    at("draw-polyhedra").parentElement.hidden = !(crystal.polyhedra || []).length;
    if (!crystal.cell) return;
    const key = ({ x, y, z }) => [x, y, z].map((u) => Math.round(u * 5)).join();
    const near = ({ x, y, z }) => [-0.1, 0, 0.1].flatMap((p) => [-0.1, 0, 0.1].flatMap((q) =>
      [-0.1, 0, 0.1].map((r) => key({ x: x + p, y: y + q, z: z + r }))));
    const there = new Set(model.selectedAtoms({}).map(key));
    const sticks = viewer.addShape({ color: colour("--soft") });
    const balls = viewer.addShape({ color: paint.get(crystal.partner) });
    const hulls = new Map();
    for (let n = 0; n < 8; n += 1) {
      const shift = [0, 1, 2].map((i) =>
        crystal.cell.reduce((sum, edge, k) => sum + ((n >> k) & 1) * edge[i], 0));
      const moved = (place) => vector(place.map((x, i) => x + shift[i]));
      for (const pair of wanted("bonds")) {
        const [start, end] = pair.map(moved);
        const drawn = near(end).some((name) => there.has(name));
        // alloys are not closed: who would the last partner's partners be?
        if (!drawn && !crystal.partner) continue;
        sticks.addCylinder({ start, end, radius: 0.07, fromCap: 1, toCap: 1 });
        if (drawn) continue;
        balls.addSphere({ center: end, radius: RADIUS });
        there.add(key(end));
      }
      for (const { element, vertices, faces } of wanted("polyhedra")) {
        const places = vertices.map(moved);
        // each face with its own corners, so that edges stay sharp
        const corners = faces.flat().map((i) => places[i]);
        if (!hulls.has(element)) {
          hulls.set(element, viewer.addShape({ color: paint.get(element), opacity: 0.55 }));
        }
        hulls.get(element).addCustom({ vertexArr: corners, faceArr: corners.map((_, i) => i),
          normalArr: normals(corners, places) });
      }
    }
  };
  // outward normals of triangles, three corners each
  const normals = (corners, places) => {
    const mean = ["x", "y", "z"].map((k) => places.reduce((s, p) => s + p[k], 0) / places.length);
    const found = [];
    for (let i = 0; i < corners.length; i += 3) {
      const [p, q, r] = corners.slice(i, i + 3).map(({ x, y, z }) => [x, y, z]);
      const u = q.map((x, k) => x - p[k]);
      const v = r.map((x, k) => x - p[k]);
      let n = [0, 1, 2].map((k) => u[(k + 1) % 3] * v[(k + 2) % 3] - u[(k + 2) % 3] * v[(k + 1) % 3]);
      const size = Math.hypot(...n) || 1;
      const out = n.reduce((s, x, k) => s + x * (p[k] - mean[k]), 0) < 0 ? -size : size;
      n = vector(n.map((x) => x / out));
      found.push(n, n, n);
    }
    return found;
  };
  const drawCrystal = async (view) => {
    const crystal = crystals.get(current);
    const place = at("crystal");
    if (!place) return;
    place.hidden = at("crystal-words").hidden = !crystal;
    at("no-crystal").hidden = Boolean(crystal);
    if (!crystal) return;
    await start("viewer-code");
    // another candidate may have been opened meanwhile
    if (crystal.rank !== current) return;
    try {
      viewer ??= $3Dmol.createViewer(place, { antialias: true });
    } catch { viewer = null; }
    if (!viewer) {
      place.textContent = "This browser cannot draw crystals (it lacks WebGL).";
      return;
    }
    viewer.clear();
    viewer.resize();
    viewer.setBackgroundColor(colour("--paper"));
    const model = viewer.addModel(crystal.cif, "cif",
      { doAssembly: true, duplicateAssemblyAtoms: true, normalizeAssembly: true });
    const axes = Object.fromEntries(["a", "b", "c"].flatMap((axis) => [
      [`${axis}style`, { color: colour("--ink"), radius: 0.1, midpos: -1 }],
      [`${axis}label`, axis],
      [`${axis}labelstyle`, { fontColor: colour("--ink"), backgroundColor: colour("--paper"),
        backgroundOpacity: 0.9, fontSize: 16, padding: 2, inFront: true }]]));
    viewer.addUnitCell(model, { box: { color: colour("--soft") }, ...axes });
    viewer.replicateUnitCell(2, 2, 2, model);
    const present = [...new Set(model.selectedAtoms({}).map((atom) => atom.elem))];
    const paint = paints(present);
    for (const [elem, color] of paint) viewer.setStyle({ elem }, { sphere: { radius: RADIUS, color } });
    joined(crystal, model, paint);
    if (view) viewer.setView(view);
    else {
      viewer.zoomTo();
      viewer.zoom(1.1);
      viewer.rotate(20, "x");
      viewer.rotate(25, "y");
    }
    viewer.render();
    at("elements").replaceChildren(...present.map((element) => {
      const item = document.createElement("span");
      const dot = document.createElement("i");
      dot.style.background = "#" + paint.get(element).toString(16).padStart(6, "0");
      item.append(dot, element);
      return item;
    }));
    place.dataset.drawn = String(current);
  };
  const show = (rank) => {
    const template = at(`candidate-${rank}`);
    if (!template) return;
    current = rank;
    const content = template.content.cloneNode(true);
    at("candidate-title").replaceChildren(...content.querySelector(".title").childNodes);
    at("candidate-why").replaceChildren(...content.querySelector(".why").childNodes);
    at("candidate-rest").replaceChildren(...content.querySelector(".rest").childNodes);
    all("table.sortable", at("candidate-rest")).forEach(sortable);
    at("save-cif").hidden = !crystals.has(rank);
    const order = rowsShown().map(rankOf);
    for (const button of all("[data-step]", dialog)) {
      const next = order[order.indexOf(rank) + Number(button.dataset.step)];
      button.disabled = next === undefined || !order.includes(rank);
      button.onclick = () => show(next);
    }
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    at("candidate-title").focus();
    frames();
    drawCrystal();
  };
  if (dialog) {
    for (const button of all("[data-open]")) {
      button.addEventListener("click", () => show(Number(button.dataset.open)));
    }
    // the whole row opens for the mouse; the keyboard has the button in it
    table.tBodies[0].addEventListener("click", (event) => {
      const chosen = String(getSelection());
      if (!event.target.closest("button") && !chosen) show(rankOf(event.target.closest("tr")));
    });
    at("close-candidate").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => {
      const button = table.querySelector(`[data-open="${current}"]`);
      if (button) button.focus();
    });
    at("save-cif").addEventListener("click", () => {
      const { file, cif } = crystals.get(current);
      save(file, cif, "chemical/x-cif");
    });
    for (const box of all("#drawn-parts input")) {
      box.addEventListener("change", () => viewer && drawCrystal(viewer.getView()));
    }
    const place = at("crystal");
    if (place) {
      place.addEventListener("keydown", (event) => {
        const turns = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"],
          ArrowDown: [10, "x"] }[event.key];
        const factor = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 }[event.key];
        if (!viewer || !(turns || factor)) return;
        event.preventDefault();
        if (turns) viewer.rotate(...turns); else viewer.zoom(factor);
        viewer.render();
      });
    }
  }

  // ---- theme: the system's until one is chosen, which is kept
  const toggle = at("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    toggle.setAttribute("aria-pressed", String(dark()));
    redraw();
    if (dialog && dialog.open) drawCrystal();
    document.dispatchEvent(new CustomEvent("matml:theme", { detail: { theme } }));
  };
  const stored = () => {
    try { return localStorage.getItem("matml-theme"); } catch { return null; }
  };
  toggle.setAttribute("aria-pressed", String(dark()));
  toggle.addEventListener("click", () => {
    const theme = dark() ? "light" : "dark";
    try { localStorage.setItem("matml-theme", theme); } catch { /* storage may be forbidden */ }
    setTheme(theme);
  });
  system.addEventListener("change", () => {
    if (!stored()) setTheme(system.matches ? "dark" : "light");
  });

  window.matml = { drawAll, theme: () => root.dataset.theme, turn: () => viewer && viewer.getView() };
})();
