
"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const root = document.documentElement;

// Light, dark, or as the system has it.
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Pointing at a cell says what it is, and shows its layer in every picture; arrow keys go from cell to cell.
const cells = all(".cell");
const clear = (name) => all("." + name).forEach((cell) => cell.classList.remove(name));
function show(svg, cell) {
  clear("here");
  clear("same");
  svg.parentNode.querySelector("output").textContent = cell ? cell.querySelector("title").textContent : "";
  if (!cell) return;
  cell.classList.add("here");
  const layer = cell.dataset.layer;
  if (layer) cells.filter((other) => other.dataset.layer === layer).forEach((other) => other.classList.add("same"));
}
for (const svg of all("svg")) {
  const own = all(".cell", svg);
  let at = -1;
  svg.addEventListener("pointerover", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) show(svg, own[(at = own.indexOf(cell))]);
  });
  svg.addEventListener("pointerleave", () => show(svg, document.activeElement === svg ? own[at] : null));
  svg.addEventListener("focus", () => show(svg, own[(at = Math.max(at, 0))]));
  svg.addEventListener("blur", () => show(svg, null));
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -own.length, End: own.length };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    at = Math.min(Math.max(at + step, 0), own.length - 1);
    show(svg, own[at]);
  });
}

// Looking for a package leaves what matches, in the pictures and in the table.
const rows = all("#layers tbody tr");
document.getElementById("find").addEventListener("input", (event) => {
  const text = event.target.value.trim().toLowerCase();
  root.classList.toggle("finding", text !== "");
  let found = 0;
  for (const cell of cells) {
    const matches = text !== "" && cell.querySelector("title").textContent.split("\n")[0].toLowerCase().includes(text);
    cell.classList.toggle("match", matches);
  }
  for (const row of rows) {
    row.hidden = text !== "" && !row.cells[2].textContent.toLowerCase().includes(text);
    found += row.hidden ? 0 : 1;
  }
  document.getElementById("found").textContent = text === "" ? "" : `in ${found} of ${rows.length} layers`;
});

// The table is sorted by the column whose head is pressed.
all("#layers th").forEach((head, column) => {
  const button = head.querySelector("button");
  if (!button) return;
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    all("#layers th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const order = (a, b) => value(a).localeCompare(value(b), "en", { numeric: true });
    rows.sort((a, b) => (down ? order(b, a) : order(a, b)));
    document.querySelector("#layers tbody").append(...rows);
  });
});
