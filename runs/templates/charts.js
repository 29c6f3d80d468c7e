"use strict";
// Charts: drawn when they come near the window, in the colours of the page, for its width.
const NARROW = matchMedia("(max-width: 600px)");
const DARK = matchMedia("(prefers-color-scheme: dark)");
const PRINT_WIDTH = 960;  // pixels on A4 landscape
const drawn = new Map();  // element of a chart -> what its figure says
let printing = false;

// A colour of the page depends on light and dark, so it is known only on an element.
function palette() {
  const probe = document.body.appendChild(document.createElement("span"));
  if (printing) probe.style.colorScheme = "light";
  const found = {};
  for (const name of ["ground", "ink", "soft", "line", "band", "mark"]) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

function template() {
  const { ground, ink, soft, line, mark } = palette();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: soft, tickcolor: soft, automargin: true };
  const bar = { outlinecolor: line, tickcolor: soft };
  const clear = "rgba(0,0,0,0)";
  const font = { color: ink, family: getComputedStyle(document.body).fontFamily, size: 13 };
  return {
    layout: {
      paper_bgcolor: ground, plot_bgcolor: clear,
      colorway: ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"],
      font,
      xaxis: axis, yaxis: axis, coloraxis: { colorbar: bar },
      hoverlabel: { bgcolor: ground, bordercolor: soft, align: "left", font, namelength: -1 },
      legend: { bgcolor: clear },
      modebar: { bgcolor: clear, color: soft, activecolor: mark },
      annotationdefaults: { font, arrowcolor: soft },
      shapedefaults: { line: { color: soft } },
    },
  };
}

// What depends on theme, width and paper; everything else is the figure's own.
function dress({ data, layout }) {
  const names = data.filter((trace) => trace.name && trace.showlegend !== false).length;
  const narrow = NARROW.matches && !printing;
  const below = { orientation: "h", x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom" };
  return {
    template: template(),
    // Below a narrow chart each name has a line of its own.
    height: (layout.height ?? 460) + (narrow && layout.showlegend !== false ? 18 * names : 0),
    margin: narrow ? { l: 8, r: 8, t: 24, b: 8 } : { l: 60, r: 20, t: 30, b: 50, ...layout.margin },
    legend: { ...layout.legend, ...(narrow ? below : {}) },
    // A finger that moves the page must not zoom a chart.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : layout.dragmode ?? "zoom",
    ...(printing ? { autosize: false, width: PRINT_WIDTH } : { autosize: true, width: undefined }),
  };
}

function dressAll() {
  for (const [holder, told] of drawn) Plotly.relayout(holder, dress(told.chart));
}

// The first of some points whose network has a card.
function networkOf(points) {
  for (const { customdata } of points) {
    const network = Array.isArray(customdata) ? customdata[0] : customdata;
    if (network && document.getElementById(`card-${network}`)) return network;
  }
  return null;
}

function draw(holder) {
  if (drawn.has(holder)) return;
  const figure = holder.closest("figure");
  const told = JSON.parse(figure.querySelector(".chart-data").textContent);
  const name = figure.id.replace("figure-", "");
  drawn.set(holder, told);
  const { data, layout } = structuredClone(told.chart);  // plotly writes into what it is given
  Plotly.newPlot(holder, data, { ...layout, ...dress(told.chart) }, {
    responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", showTips: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d"],
    toImageButtonOptions: { format: "svg", filename: name },
  }).catch((problem) => { figure.classList.add("broken"); console.error(name, problem); });
  describe(holder);
  holder.on("plotly_click", ({ points }) => showCard(networkOf(points), holder));
  holder.on("plotly_hover", ({ points }) => holder.classList.toggle("opens", networkOf(points) !== null));
  holder.on("plotly_unhover", () => holder.classList.remove("opens"));
  for (const set of figure.querySelectorAll(".switch")) {
    set.addEventListener("change", () => turn(figure, holder, told, set));
  }
  walkable(holder);
}

// The drawing is the picture that the text describes; the buttons beside it are not part of it.
function describe(holder) {
  const [first, ...others] = holder.querySelectorAll(".main-svg");
  first.setAttribute("role", "img");
  first.setAttribute("aria-label", holder.getAttribute("aria-label"));
  for (const other of others) other.setAttribute("aria-hidden", "true");
  holder.removeAttribute("role");
  holder.removeAttribute("aria-label");
}

function turn(figure, holder, told, set) {
  const options = told.switches[set.dataset.switch];
  const option = options[set.querySelector(":checked").value];
  const layout = { ...option.layout };
  // What somebody zoomed into on the old axis means nothing on the new one.
  for (const axis of new Set(Object.keys(layout).map((key) => key.split(".")[0]))) {
    const fixed = told.chart.layout[axis]?.range || `${axis}.range` in layout || layout[axis]?.range;
    if (/^[xy]axis/.test(axis) && !fixed) layout[`${axis}.autorange`] = true;
  }
  figure.classList.toggle("moved", figure.querySelector(".switch input:checked:not([value='0'])") !== null);
  Plotly.update(holder, option.data, layout);
  const [reading, note] = figure.querySelectorAll("figcaption p");
  if (option.reading) reading.textContent = option.reading;
  if (option.alt) holder.querySelector(".main-svg").setAttribute("aria-label", option.alt);
  if (option.note !== undefined) note.textContent = option.note;
}

// Points by keyboard: a button that takes arrow keys, shows the point's label and opens its card.
function walkable(holder) {
  const points = () => holder.data.flatMap((trace, curveNumber) =>
    Array.from(trace.visible === "legendonly" ? [] : trace.customdata ?? [], (customdata, pointNumber) =>
      ({ curveNumber, pointNumber, customdata, at: trace.x?.[pointNumber] ?? pointNumber }))
      .filter((point) => networkOf([point]))).sort((one, other) => one.at - other.at);
  if (!points().length) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "walk";
  button.textContent = "Points: arrow keys go from one to the next, Enter opens the card";
  const said = document.createElement("output");
  said.className = "walked soft";
  holder.after(button, said);
  let place = -1;
  button.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = points();
    place = (Math.max(place, step > 0 ? -1 : 0) + step + all.length) % all.length;
    const { curveNumber, pointNumber } = all[place];
    Plotly.Fx.hover(holder, [{ curveNumber, pointNumber }]);
  });
  // Labels are drawn a moment later.
  new MutationObserver(() => {
    if (document.activeElement !== button) return;
    const lines = holder.querySelectorAll(".hoverlayer .line, .hoverlayer text:not(:has(.line))");
    said.textContent = Array.from(lines, (line) => line.textContent).filter(Boolean).join("; ");
  }).observe(holder.querySelector(".hoverlayer"), { childList: true, subtree: true });
  button.addEventListener("click", () => { if (place >= 0) showCard(networkOf([points()[place]]), button); });
  button.addEventListener("blur", () => { Plotly.Fx.unhover(holder); said.textContent = ""; });
}

const holders = document.querySelectorAll(".chart");
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) { near.unobserve(target); draw(target); }
  }
}, { rootMargin: "600px" });
for (const holder of holders) near.observe(holder);

for (const query of [DARK, NARROW]) query.addEventListener("change", dressAll);
const theme = document.getElementById("theme");
theme.addEventListener("change", () => {
  if (theme.value) document.documentElement.dataset.theme = theme.value;
  else delete document.documentElement.dataset.theme;
  dressAll();
});

// On paper nothing can be unfolded or scrolled to.
addEventListener("beforeprint", () => {
  printing = true;
  for (const folded of document.querySelectorAll("details:not([open])")) {
    folded.open = true;
    folded.dataset.folded = "";
  }
  holders.forEach(draw);
  dressAll();
});
addEventListener("afterprint", () => {
  printing = false;
  for (const folded of document.querySelectorAll("details[data-folded]")) {
    folded.open = false;
    delete folded.dataset.folded;
  }
  dressAll();
});
