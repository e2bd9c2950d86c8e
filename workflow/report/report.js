// Sorting, and opening what is folded before printing; without this script everything can be read all the same.
"use strict";
(() => {
  const value = (row, n) => {
    const cell = row.cells[n];
    const text = (cell.dataset.sort ?? cell.textContent).trim().replace(/^−/, "-").replace("∞", "Infinity");
    return text === "" || text === "–" ? null : /^[+-]?(\d|Infinity)/.test(text) ? parseFloat(text) : text;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  const sort = (table, n, header) => {
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, n), row]);
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : (up ? 1 : -1) * compare(a, b));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((header, n) => {
      header.classList.add("sorts");
      header.tabIndex = 0;
      header.addEventListener("click", () => sort(table, n, header));
      header.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        sort(table, n, header);
      });
    });
  }
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.print:not([open])")];
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
  });
})();
