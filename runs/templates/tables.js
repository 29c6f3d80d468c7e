"use strict";
// Tables: a click on a heading sorts, and long tables can be filtered.
const COLLATOR = new Intl.Collator("en", { numeric: true });
const FEW = 12;  // rows that need no filter
const MISSING = new Set(["", "\u2013", "\u2014", "-"]);

// What a cell sorts by: a number where its column has numbers, else its text; null is missing.
function keyOf(row, column, numeric) {
  const cell = row.cells[column];
  if (numeric) return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return MISSING.has(text) ? null : text;
}

// Missing values stay last in both directions; equal ones keep their order.
function sorted(rows, column, direction) {
  const numeric = rows.some((row) => row.cells[column].dataset.value !== undefined);
  const keyed = rows.map((row) => [keyOf(row, column, numeric), row]);
  keyed.sort(([one], [other]) => {
    if (one === null || other === null) return (one === null) - (other === null);
    return direction * (numeric ? one - other : COLLATOR.compare(one, other));
  });
  return keyed.map(([, row]) => row);
}

function sortable(table) {
  const body = table.tBodies[0];
  const written = Array.from(body.rows);
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[heading.getAttribute("aria-sort")];
      for (const other of headings) other.removeAttribute("aria-sort");
      if (next !== null) heading.setAttribute("aria-sort", next ?? "ascending");
      const direction = next === "descending" ? -1 : 1;
      // The third click gives the order in which the table was written.
      body.append(...(next === null ? written : sorted(written, column, direction)));
    });
  });
}

function filterable(table) {
  const rows = Array.from(table.tBodies[0].rows);
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const bar = document.createElement("div");
  bar.className = "filter";
  const label = document.createElement("label");
  label.textContent = "Show rows with";
  const input = document.createElement("input");
  input.type = "search";
  input.autocomplete = "off";
  input.setAttribute("aria-controls", table.id);
  const count = document.createElement("output");
  label.append(input);
  bar.append(label, count);
  table.closest(".scroll").before(bar);
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, place) => {
      row.hidden = !words.every((word) => texts[place].includes(word));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", show);
  show();
}

for (const table of document.querySelectorAll("main table")) {
  if (table.tBodies[0].rows.length > 1) sortable(table);
  if (table.tBodies[0].rows.length > FEW) filterable(table);
}
