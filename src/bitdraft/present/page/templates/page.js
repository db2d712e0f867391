"use strict";
// Draws the charts from the specifications beside them, and adds what needs a script: colour scheme, sorting,
// copying, printing. Without it all texts and tables stand as they are.
(() => {
  const root = document.documentElement;
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const charts = [];
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

  // ---- charts --------------------------------------------------------------------------------------------

  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  // `ast` and the interpreter: no code is made from text, which the page's policy forbids
  async function draw(chart) {
    const config = themes[isDark() ? "dark" : "light"];
    const options = { actions: false, renderer: "svg", ast: true, config, tooltip: { theme: isDark() ? "dark" : "light" } };
    const spec = structuredClone(chart.spec);
    if (printing) spec.width = Math.max(240, chart.div.clientWidth - 8);
    chart.made?.finalize();
    // the figure is an image with words of its own; what is in it is not read out beside them
    const drawing = element("div", { "aria-hidden": "true" });
    chart.div.replaceChildren(drawing);
    chart.made = await vegaEmbed(drawing, spec, options);
  }

  const isShown = (chart) => !chart.div.closest("details:not([open])");

  async function drawAll() {
    for (const chart of charts.filter(isShown)) await draw(chart);
  }

  function saveButton(chart) {
    const button = element("button", { type: "button", class: "save", "aria-label": `Save ${chart.title} as PNG` }, "PNG");
    button.addEventListener("click", async () => {
      const link = element("a", { download: `${chart.title.replace(/[^\w]+/g, "_")}.png` });
      link.href = await chart.made.view.toImageURL("png", 2);
      link.click();
    });
    return button;
  }

  function readCharts() {
    for (const script of document.querySelectorAll("script[data-chart]")) {
      const div = document.getElementById(script.dataset.chart);
      div.replaceChildren();
      const chart = { div, ...JSON.parse(script.textContent) };
      charts.push(chart);
      div.parentElement.append(saveButton(chart));
    }
    // what is folded has no width before it is opened
    for (const folded of document.querySelectorAll("details")) {
      folded.addEventListener("toggle", () => {
        for (const chart of charts) if (isShown(chart) && !chart.made && folded.contains(chart.div)) draw(chart);
      });
    }
  }

  // a chart at a time, so that the page answers meanwhile
  async function drawInTurn() {
    for (const chart of charts.filter(isShown)) {
      await draw(chart);
      await new Promise((next) => setTimeout(next));
    }
    root.dataset.drawn = "true";
  }

  // ---- colour scheme -------------------------------------------------------------------------------------

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

  // on paper: light, unfolded, and charts as wide as a page
  async function print(begins) {
    if (begins === printing) return;
    printing = begins;
    root.classList.toggle("printing", begins);
    await drawAll();
  }

  // a link into what is folded opens it
  function openTarget() {
    const target = document.getElementById(location.hash.slice(1));
    target?.querySelectorAll(":scope > details").forEach((folded) => { folded.open = true; });
  }

  function markSection() {
    const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(entry.target.id)?.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-20% 0px -70% 0px" });
    for (const id of links.keys()) {
      const target = document.getElementById(id);
      if (target) seen.observe(target);
    }
  }

  readCharts();
  addSorting();
  addCopying();
  addThemeButton();
  markSection();
  openTarget();
  addEventListener("hashchange", openTarget);
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  drawInTurn();
})();
