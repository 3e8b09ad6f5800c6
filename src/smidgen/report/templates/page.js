"use strict";
// Everything here is a comfort: the page says the same without it.
document.documentElement.classList.add("scripted");

const all = (query, root = document) => [...root.querySelectorAll(query)];
const byId = (id) => document.getElementById(id);

// Sorting: the titles of a table become buttons. A second press turns the order around.
function orderOf(row, index) {
  const cell = row.cells[index];
  const text = cell.dataset.order ?? cell.textContent.trim();
  const number = text === "-inf" ? -Infinity : Number(text.replace(/[,\s%]/g, ""));
  return text !== "" && !Number.isNaN(number) ? number : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

for (const table of all("table[data-sortable]")) {
  const headings = all("thead th", table);
  headings.forEach((heading, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const firstDown = heading.classList.contains("number");
      const down = before === null ? firstDown : before === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * compare(orderOf(a, index), orderOf(b, index)));
      table.tBodies[0].append(...rows);
    });
  });
}

// Searching and picking: what does not fit is hidden, and the number of the rest is said.
function choose(id) {
  const field = document.querySelector(`[data-search="${id}"]`);
  const menu = document.querySelector(`[data-pick="${id}"]`);
  const words = (field?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const items = all("[data-item]", byId(id));
  let count = 0;
  for (const item of items) {
    const text = item.textContent.toLowerCase();
    const keys = (item.dataset.keys ?? "").split(" ");
    const fits = words.every((word) => text.includes(word)) && (!menu?.value || keys.includes(menu.value));
    item.hidden = !fits;
    count += fits;
  }
  for (const output of all(`[data-count="${id}"]`)) {
    output.textContent = words.length || menu?.value ? `${count} of ${items.length} shown` : "";
  }
}
for (const field of all("[data-search]")) field.addEventListener("input", () => choose(field.dataset.search));
for (const menu of all("[data-pick]")) menu.addEventListener("change", () => choose(menu.dataset.pick));

// Links that pick: a cell of the confusion matrix leads to its images.
for (const link of all("a[data-picks]")) {
  link.addEventListener("click", () => {
    const menu = document.querySelector(`[data-pick="${link.dataset.target}"]`);
    menu.value = link.dataset.picks;
    menu.dispatchEvent(new Event("change"));
  });
}

// Toggles: one of several parts is shown.
for (const group of all("[data-toggle]")) {
  const buttons = all("button[data-shows]", group);
  const show = (chosen) => {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button === chosen));
      byId(button.dataset.shows).hidden = button !== chosen;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  if (buttons.length) show(buttons[0]);
}

// Hovering: the titles of marks are shown at once, beside the pointer.
const bubble = document.createElement("div");
bubble.className = "bubble";
bubble.hidden = true;
bubble.setAttribute("aria-hidden", "true");
document.body.append(bubble);
const marks = new WeakMap();
for (const title of all("svg .mark > title")) {
  marks.set(title.parentNode, title.textContent);
  title.remove();
}
const hush = () => { bubble.hidden = true; };
const tell = (event) => {
  const mark = event.target.closest?.(".mark");
  const text = mark && marks.get(mark);
  bubble.hidden = !text;
  if (!text) return;
  bubble.textContent = text;
  const room = document.documentElement.clientWidth - bubble.offsetWidth - 8;
  bubble.style.left = `${Math.max(8, Math.min(event.clientX + 14, room))}px`;
  const above = event.clientY - bubble.offsetHeight - 12;
  bubble.style.top = `${above > 0 ? above : event.clientY + 18}px`;
};
document.addEventListener("pointermove", tell);
document.addEventListener("pointerdown", tell); // a finger does not hover
document.documentElement.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hush(); });
document.addEventListener("scroll", hush, { capture: true, passive: true });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hush(); });

// Printing: what is folded is unfolded.
window.addEventListener("beforeprint", () => all("details").forEach((part) => { part.open = true; }));
