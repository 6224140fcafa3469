// The page's behaviour: draws the charts, filters, shows what stands behind a number, switches light and dark.
// Text always goes through textContent: names in a study may hold markup.
"use strict";
(async () => {
  // data and libraries are compressed inside the page: zlib, as base64
  async function unpacked(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (sign) => sign.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  }
  if (!window.DecompressionStream) {
    document.getElementById("old").hidden = false;
    return;
  }
  const { evidence, specs } = JSON.parse(await unpacked("data"));
  const libraries = document.createElement("script");  // which the page's policy knows by the hash of its text
  libraries.textContent = await unpacked("libraries");
  document.head.append(libraries);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- charts -------------------------------------------------------------------------------------------------
  const NARROWEST_PX = 110;  // of a panel, without its labels
  const charts = all("figure.chart").map((figure) => ({
    figure, spec: specs[figure.id], view: null, drawn: "",
  }));

  const isRows = (value) => Array.isArray(value) && value.some((row) => row && typeof row === "object" && ("backbone" in row || "item" in row));
  const isShown = (row) => shown("backbone", row.backbone) && shown("backbone", row.other) && shown("item", row.item);
  const filtered = (value, key) => {  // the specification with the rows and the names in legends that are shown
    if (isRows(value)) return value.filter(isShown);
    if (Array.isArray(value)) return value.map((v) => [v, filtered(v)]).filter(([v, left]) => !emptied(v, left)).map(([, left]) => left);
    if (key === "legend" && value && value.values) return { ...value, values: value.values.filter((name) => shown("backbone", name)) };
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, filtered(v, k)]));
    return value;
  };
  const countRows = (value) => isRows(value) ? value.length : value && typeof value === "object"
    ? Object.values(value).reduce((sum, v) => sum + countRows(v), 0) : 0;

  const emptied = (value, left) => countRows(value) > 0 && countRows(left) === 0;  // a panel of which no row is left

  async function draw(chart) {
    const room = Math.floor(chart.figure.parentElement.clientWidth);
    const spec = filtered(chart.spec);
    const key = `${room} ${JSON.stringify(spec)}`;
    if (key === chart.drawn) return;
    chart.drawn = key;
    chart.figure.hidden = emptied(chart.spec, spec);
    if (chart.figure.hidden) return;
    if (spec.columns && spec.concat) spec.columns = Math.min(spec.columns, spec.concat.length);
    for (let more = await embed(chart, spec) - room; more > 0; more = await embed(chart, spec) - room) {
      if (!narrower(spec, more)) break;  // it scrolls
    }
  }
  function narrower(spec, px) {  // fewer beside each other, then narrower panels; false where nothing more can be done
    for (const part of [spec, spec.config.legend]) {
      if (part.columns > 1) {
        part.columns -= 1;
        return true;
      }
    }
    const panels = (spec.concat ?? [spec]).filter((panel) => panel.width > NARROWEST_PX);
    spec.config.title.limit = 190;  // a long name of a task is cut, and told in full on hovering
    for (const panel of panels) panel.width = Math.max(NARROWEST_PX, panel.width - Math.ceil(px));
    return panels.length > 0;
  }
  async function embed(chart, spec) {  // draws it; its width
    const plot = chart.figure.querySelector(".plot");
    if (chart.view) chart.view.finalize();
    // SVG, because its text takes the colour of the page (currentColor): light, dark and print need no new drawing.
    // ast: expressions are interpreted, not compiled, so that the page's policy need not allow eval
    const result = await window.vegaEmbed(plot.firstElementChild, spec, {
      mode: "vega-lite", renderer: "svg", ast: true, loader: { target: "_self" }, logLevel: 2 /* warnings */,
      actions: { export: true, source: false, compiled: false, editor: false },
    });
    chart.view = result.view;
    return plot.querySelector("svg").getBoundingClientRect().width;
  }
  async function drawAll() {
    for (const chart of charts) {
      try {
        await draw(chart);
      } catch (error) {
        chart.figure.querySelector(".plot").textContent = `This chart could not be drawn: ${error.message}`;
        console.error(chart.figure.id, error);
      }
    }
    document.documentElement.dataset.drawn = String(Number(document.documentElement.dataset.drawn ?? 0) + 1);
  }

  let resizing = 0;
  window.addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(drawAll, 200);
  });

  // ---- filter -------------------------------------------------------------------------------------------------
  const boxes = all("#filter input");
  const hiddenNames = { backbone: new Set(), item: new Set() };
  const shown = (kind, name) => !hiddenNames[kind].has(name);
  function applyFilter() {
    for (const kind of ["backbone", "item"]) {
      hiddenNames[kind] = new Set(boxes.filter((box) => box.name === kind && !box.checked).map((box) => box.value));
      for (const element of all(`[data-${kind}]`)) {
        element.toggleAttribute("data-off", !shown("backbone", element.dataset.backbone) || !shown("item", element.dataset.item));
      }
    }
    for (const element of all("[data-backbone], [data-item]")) element.hidden = element.hasAttribute("data-off");
    const count = (kind) => {
      const own = boxes.filter((box) => box.name === kind);
      return `${own.filter((box) => box.checked).length} of ${own.length}`;
    };
    const some = boxes.some((box) => !box.checked);
    document.getElementById("shown").textContent = `${count("backbone")} backbones, ${count("item")} tasks and diagnoses shown`;
    document.getElementById("filtered").textContent = some ? " •" : "";
    drawAll();
  }
  boxes.forEach((box) => box.addEventListener("change", applyFilter));
  for (const [id, checked] of [["all", true], ["none", false]]) {
    document.getElementById(id).addEventListener("click", () => {
      boxes.forEach((box) => { box.checked = checked; });
      applyFilter();
    });
  }

  // ---- menus: one at a time, closed by Escape or a click elsewhere -----------------------------------------------
  const menus = all("details.menu");
  document.addEventListener("click", (event) => menus.forEach((menu) => {
    if (!menu.contains(event.target) || event.target.closest("nav a")) menu.open = false;
  }));
  document.addEventListener("keydown", (event) => {
    const open = menus.find((menu) => menu.open);
    if (event.key === "Escape" && open) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });

  // ---- tables of backbones: a heading sorts by its column, the best first, then the last, then as it was --------------
  const worth = (cell) => Number.parseFloat((cell.querySelector("a.n") ?? cell).textContent.replace("\u2212", "-").replaceAll(",", ""));
  function compare(column, sign) {  // what has no number ("not run") is last in both orders
    return (one, other) => {
      const [a, b] = [worth(one.cells[column]), worth(other.cells[column])];
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * (a - b);
    };
  }
  function sortable(table) {
    const own = [...table.tBodies[0].rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.slice(1).forEach((head, i) => {
      const button = document.createElement("button");
      button.className = "sort";
      button.title = "sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      const best = head.textContent.includes("\u2193") ? "ascending" : "descending";
      const orders = ["none", best, best === "ascending" ? "descending" : "ascending"];
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const order = orders[(orders.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
        heads.slice(1).forEach((other) => other.setAttribute("aria-sort", other === head ? order : "none"));
        const sign = order === "ascending" ? 1 : -1;
        table.tBodies[0].append(...(order === "none" ? own : [...own].sort(compare(i + 1, sign))));
      });
    });
  }
  all("table.sorts").forEach(sortable);

  // ---- what stands behind a number -------------------------------------------------------------------------------
  const dialog = document.getElementById("behind");
  const body = dialog.querySelector("div");
  function add(parent, tag, text, attributes = {}) {
    const element = parent.appendChild(document.createElement(tag));
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }
  const digits = (value) => value === null || value === undefined ? "" : Number(value.toPrecision(6)).toString();
  function describe(place) {
    const [backbone, of, , metric, said, rows] = evidence.numbers[place];
    add(body, "h3", [backbone, of || "pretraining", metric].filter(Boolean).join(" · "));
    add(body, "p", said);
    const table = add(add(body, "div", undefined, { class: "wide" }), "table");
    const head = add(add(table, "thead"), "tr");
    for (const name of ["seed", "value", "95 % over test images", "n", "run"]) add(head, "th", name, { scope: "col" });
    const lines = add(table, "tbody");
    for (const [seed, value, low, high, n, at] of rows) {
      const line = add(lines, "tr");
      add(line, "th", String(seed), { scope: "row" });
      add(line, "td", digits(value));
      add(line, "td", low === null || high === null || low === undefined ? "" : `[${digits(low)}, ${digits(high)}]`);
      add(line, "td", n.toLocaleString("en"));
      add(add(line, "td"), "a", evidence.cells[at].name, { href: evidence.cells[at].link });
    }
    rows.forEach(([seed, , , , , at, facts]) => {
      const own = evidence.cells[at];
      const part = add(body, "details");
      part.open = rows.length === 1;
      add(part, "summary", `seed ${seed}: command and settings`);
      if (own.command) add(part, "pre", own.command);
      if (own.study) add(part, "p", `in its study: ${own.study}`, { class: "unit" });
      const list = add(part, "dl");
      for (const [name, value] of [["backbone as run", own.model], ["images", own.data], ...evidence.facts[facts], ["versions", own.versions]]) {
        if (value) { add(list, "dt", name); add(list, "dd", value); }
      }
      add(add(part, "p"), "a", "All of it: results.jsonl", { href: `${own.link}results.jsonl` });
    });
  }
  function showBehind() {
    const match = /^#n\d+(\+n\d+)*$/.exec(location.hash);
    const places = match ? location.hash.slice(1).split("+").map((name) => Number(name.slice(1))).filter((i) => evidence.numbers[i]) : [];
    if (!places.length) {
      if (dialog.open) dialog.close();
      return;
    }
    body.replaceChildren();
    places.forEach(describe);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }
  // the address goes back to where the reader was, without moving the page
  dialog.addEventListener("close", () => {
    if (/^#n\d/.test(location.hash)) history.replaceState(null, "", location.pathname + location.search);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  window.addEventListener("hashchange", showBehind);

  // ---- light and dark --------------------------------------------------------------------------------------------
  const theme = document.getElementById("theme");
  const isDark = () => document.documentElement.dataset.theme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(isDark()));
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();

  drawAll();
  showBehind();
})();
