"use strict";
// Charts take ground, ink and grid from the style of the page, so that they follow light and dark.
const charts = [];

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: read("--line"), zerolinecolor: read("--line"), linecolor: read("--soft") };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: read("--ink") }, xaxis: axis, yaxis: axis,
  };
}

function mount(figure) {
  const holder = figure.querySelector(".chart");
  if (!holder || typeof Plotly === "undefined") return;
  const told = JSON.parse(figure.querySelector(".chart-data").textContent);
  const layout = { ...told.chart.layout, template: { layout: colours() } };
  Plotly.newPlot(holder, told.chart.data, layout, { responsive: true, displaylogo: false });
  charts.push(holder);
  holder.on("plotly_click", (event) => {
    const known = event.points[0].customdata;
    const network = Array.isArray(known) ? known[0] : known;
    const card = network && document.getElementById(`card-${network}`);
    if (card) { card.scrollIntoView(); card.focus(); }
  });
  for (const set of figure.querySelectorAll(".switch")) {
    set.addEventListener("change", (event) => {
      const option = told.switches[set.dataset.switch][event.target.value];
      Plotly.update(holder, option.data, option.layout);
    });
  }
}

document.querySelectorAll("figure").forEach(mount);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const holder of charts) Plotly.relayout(holder, { template: { layout: colours() } });
});
