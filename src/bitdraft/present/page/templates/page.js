"use strict";
// Draws the charts from the JSON beside them, and adds what needs a script: colour scheme, legends that switch
// lines, linear or log, sorting, copying, printing. Without it all texts and tables stand as they are.
(() => {
  const root = document.documentElement;
  const charts = [];
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = ["ink", "muted", "line", "grid", "paper", "bad", "band"];
  const SHAPES = {
    circle: "M14 2a4 4 0 1 0 .01 0z", square: "M10 2h8v8h-8z", diamond: "M14 1l5 5-5 5-5-5z",
    "triangle-up": "M14 1l5 9H9z", "triangle-down": "M14 11l5-9H9z", cross: "M12.5 1h3v3.5H19v3h-3.5V11h-3V7.5H9v-3h3.5z",
    x: "M10 1l4 3 4-3 1.5 1.5L16.500 6l3 3.500L18 11l-4-3-4 3-1.500-1.500 3-3.500-3-3.500z",
    star: "M14 0l1.800 4h4.200l-3.300 2.700 1.200 4.300-3.900-2.500-3.900 2.500 1.200-4.300L8 4h4.200z", "line-ew": "M6 5h16v2H6z",
  };
  let printing = false;

  function element(name, attributes = {}, text = "") {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  function say(text) {
    document.getElementById("said").textContent = text;
  }

  // ---- colours -------------------------------------------------------------------------------------------

  function pageColours() {
    const probe = document.body.appendChild(document.createElement("span"));
    const found = {};
    for (const name of COLOURS) {
      probe.style.color = `var(--${name})`;
      found[`$${name}`] = getComputedStyle(probe).color;
    }
    probe.remove();
    return found;
  }

  // a copy in which every colour that begins with `$` is the page's; other texts are left alone
  function coloured(value, key, colours) {
    if (Array.isArray(value)) return value.map((entry) => coloured(entry, key, colours));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, coloured(entry, name, colours)]));
    }
    return typeof value === "string" && /color$/.test(key) && value in colours ? colours[value] : value;
  }

  // ---- charts --------------------------------------------------------------------------------------------

  function layoutOf(chart, colours) {
    const layout = coloured(chart.spec.layout, "", colours);
    const ink = colours.$ink;
    for (const name of ["xaxis", "yaxis"]) {
      layout[name] = {
        automargin: true, gridcolor: colours.$grid, zerolinecolor: colours.$line, linecolor: colours.$line,
        zeroline: false, showline: true, exponentformat: "power", ...layout[name],
      };
    }
    if (chart.spec.log && chart.isLog) {
      const axis = layout[`${chart.spec.log}axis`];
      axis.type = "log";
      axis.minor = { ticks: "outside", ticklen: 3, tickcolor: colours.$line };
      delete axis.rangemode;
      delete axis.range;
    }
    if (printing) layout.width = chart.div.clientWidth;
    return Object.assign(layout, {
      autosize: !printing, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: ink },
      hoverlabel: { bgcolor: colours.$paper, bordercolor: colours.$muted, font: { color: ink }, align: "left" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      uirevision: String(chart.isLog), bargap: 0.25,
    });
  }

  const groupOf = (trace) => trace.legendgroup || trace.name || "";

  function dataOf(chart, colours) {
    return coloured(chart.spec.data, "", colours).map((trace) => ({
      ...trace, visible: chart.hidden.has(groupOf(trace)) ? "legendonly" : true,
    }));
  }

  // Plotly's own bar of buttons would be in the way of what a chart is to a screen reader: an image
  const CONFIG = { responsive: true, displayModeBar: false };

  function saveButton(chart) {
    const button = element("button", { type: "button", class: "save", "aria-label": `Save ${chart.spec.title} as PNG` }, "PNG");
    button.addEventListener("click", () => {
      const title = { text: escaped(chart.spec.title) };
      const layout = { ...chart.div.layout, showlegend: true, title, margin: { t: 60 }, paper_bgcolor: pageColours().$paper };
      const size = { format: "png", width: 1000, height: 600, scale: 2 };
      Plotly.downloadImage({ data: chart.div.data, layout }, { ...size, filename: chart.spec.title.replace(/[^\w]+/g, "_") });
    });
    return button;
  }

  function draw(chart, colours = pageColours()) {
    return Plotly.react(chart.div, dataOf(chart, colours), layoutOf(chart, colours), CONFIG);
  }

  function drawAll() {
    const colours = pageColours();
    return Promise.all(charts.map((chart) => draw(chart, colours)));
  }

  // names are escaped for Plotly, which reads tags; a button shows them as they are
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const unescaped = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

  function swatch(trace) {
    const svg = document.createElementNS(SVG, "svg");
    for (const [key, value] of [["width", 28], ["height", 12], ["aria-hidden", "true"]]) svg.setAttribute(key, value);
    const css = (colour) => (colour.startsWith("$") ? `var(--${colour.slice(1)})` : colour);
    const add = (path, style) => {
      const shape = document.createElementNS(SVG, "path");
      shape.setAttribute("d", path);
      Object.assign(shape.style, style);
      svg.append(shape);
    };
    const marker = trace.marker || {};
    const first = (value) => (Array.isArray(value) ? value[0] : value);
    if (trace.type === "bar") {
      add("M4 1h20v10H4z", { fill: css(first(marker.color)) });
      const hatch = { "/": "M6 11L14 1M14 11L22 1", "x": "M6 11L14 1M14 11L22 1M6 1l8 10M14 1l8 10", ".": "M8 4h2v2H8zM14 4h2v2h-2z" };
      add(hatch[first((marker.pattern || {}).shape)] || "M0 0", { stroke: "#fff", fill: "none" });
      return svg;
    }
    if (trace.mode.includes("lines")) {
      const dashes = { dash: "5 3", dot: "2 2" };
      add("M1 6h26", { stroke: css(trace.line.color), strokeWidth: 2, strokeDasharray: dashes[trace.line.dash] || "" });
    }
    if (trace.mode.includes("markers")) {
      const symbol = String(first(marker.symbol)).replace("-open", "");
      add(SHAPES[symbol] || SHAPES.circle, { fill: css(first(marker.color)), stroke: "var(--ink)", strokeWidth: 0.5 });
    }
    return svg;
  }

  function seriesButton(chart, trace) {
    const key = groupOf(trace);
    const button = element("button", { type: "button", class: "series", "aria-pressed": "true" });
    button.append(swatch(trace), element("span", {}, unescaped(trace.name)));
    button.title = "Show or hide";
    button.addEventListener("click", () => {
      if (!chart.hidden.delete(key)) chart.hidden.add(key);
      button.setAttribute("aria-pressed", String(!chart.hidden.has(key)));
      draw(chart);
    });
    return button;
  }

  function logButton(chart) {
    const button = element("button", { type: "button", class: "log", "aria-pressed": "false" }, "Log scale");
    button.addEventListener("click", () => {
      chart.isLog = !chart.isLog;
      button.setAttribute("aria-pressed", String(chart.isLog));
      draw(chart);
    });
    return button;
  }

  function addTools(chart) {
    const named = chart.spec.data.filter((trace) => trace.name && trace.showlegend !== false);
    const tools = chart.div.parentElement.querySelector(".tools");
    if (named.length > 1) {
      tools.setAttribute("role", "group");
      tools.setAttribute("aria-label", `Series and scale of ${chart.spec.title}`);
      tools.append(...named.map((trace) => seriesButton(chart, trace)));
    }
    if (chart.spec.log) tools.append(logButton(chart));
    tools.hidden = !tools.children.length;
    chart.div.parentElement.append(saveButton(chart));
  }

  function readCharts() {
    for (const script of document.querySelectorAll("script[data-chart]")) {
      const div = document.getElementById(script.dataset.chart);
      div.replaceChildren();
      const chart = { div, spec: JSON.parse(script.textContent), hidden: new Set(), isLog: false };
      div.style.minHeight = `${chart.spec.layout.height}px`;
      charts.push(chart);
      addTools(chart);
    }
  }

  // a chart at a time, so that the page answers meanwhile
  async function drawInTurn() {
    for (const chart of charts) {
      await draw(chart);
      await new Promise((next) => setTimeout(next));
    }
    root.dataset.drawn = "true";
  }

  // ---- colour scheme -------------------------------------------------------------------------------------

  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  function addThemeButton() {
    const button = document.getElementById("theme");
    const update = () => {
      button.setAttribute("aria-pressed", String(isDark()));
      drawAll();
    };
    button.hidden = false;
    button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      update();
    });
    systemDark.addEventListener("change", update);
  }

  // ---- tables --------------------------------------------------------------------------------------------

  const collator = new Intl.Collator("en", { numeric: true });
  const text = (cell) => cell.textContent.trim();

  // numbers by value, texts by their numbers, too; what is missing stays last in both directions
  function compare(one, other, sign) {
    const [a, b] = [one.dataset.value, other.dataset.value];
    if (a !== undefined && b !== undefined) return sign * (Number(a) - Number(b));
    const missing = (cell) => cell.dataset.value === undefined && ["–", ""].includes(text(cell));
    if (missing(one) !== missing(other)) return missing(one) ? 1 : -1;
    return sign * collator.compare(text(one), text(other));
  }

  function sortBy(table, place, head) {
    const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction);
    const body = table.tBodies[0];
    const sign = direction === "ascending" ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => compare(a.cells[place], b.cells[place], sign)));
    say(`Sorted by ${text(head)}, ${direction}`);
  }

  function addSorting() {
    for (const table of document.querySelectorAll("table")) {
      if (table.tBodies[0].rows.length < 2) continue;
      [...table.tHead.rows[0].cells].forEach((head, place) => {
        if (!text(head)) return;
        const button = element("button", { type: "button" }, text(head));
        button.addEventListener("click", () => sortBy(table, place, head));
        head.replaceChildren(button);
      });
    }
  }

  // ---- copying and printing ------------------------------------------------------------------------------

  function select(target) {
    const range = document.createRange();
    range.selectNodeContents(target);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }

  function addCopying() {
    for (const button of document.querySelectorAll("button.copy")) {
      const target = document.getElementById(button.dataset.copy);
      button.hidden = false;
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(target.textContent);
          say("Copied");
        } catch {
          select(target); // where the clipboard is closed to files: one key away
          say("Selected: copy with the keyboard");
        }
      });
    }
  }

  // on paper: light, and charts as wide as a page
  function print(begins) {
    if (begins === printing) return;
    printing = begins;
    root.classList.toggle("printing", begins);
    drawAll();
    if (!begins) for (const { div } of charts) Plotly.Plots.resize(div);
  }

  readCharts();
  addSorting();
  addCopying();
  addThemeButton();
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  drawInTurn();
})();
