// Asked inside a page. Each function is sent there by itself, so it can use nothing around it.

/** How the page fills the window. */
export function layout() {
  const seen = (element) => element.checkVisibility({ visibilityProperty: true });
  const name = (element) => `${element.tagName.toLowerCase()} ${(element.textContent ?? "").trim().slice(0, 40)}`;
  const scrolls = (element) => element.closest(".scroll, pre, .contents ul") !== null;
  const wide = document.documentElement.clientWidth;
  const beyond = [];
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    if (!box.width || !seen(element) || scrolls(element) || element.closest(".hidden, .skip")) continue;
    if (element.closest("svg") && element.tagName !== "text") continue;
    if (box.left < -0.5 || box.right > wide + 0.5) beyond.push(name(element));
  }
  const texts = [...document.querySelectorAll(".plot svg text")].filter(seen);
  const sizes = texts.map((text) => parseFloat(getComputedStyle(text).fontSize) * Math.abs(text.ownerSVGElement.getScreenCTM().a));
  return {
    width: wide,
    scrollWidth: document.documentElement.scrollWidth,
    beyond,
    smallestPlotText: sizes.length ? Math.min(...sizes) : null,
    brokenImages: [...document.images].filter((image) => image.complete && !image.naturalWidth).length,
  };
}

/** What a reader gets to see of the page. */
export function content() {
  const seen = (element) => element.checkVisibility({ visibilityProperty: true });
  const shown = (query) => [...document.querySelectorAll(query)].filter(seen);
  const count = (query) => shown(query).length;
  const letters = (element) => element.innerText.replace(/\s/g, "").length;
  const style = getComputedStyle(document.body);
  return {
    text: document.querySelector("main").innerText,
    letters: shown("main .needs-script").reduce((rest, tool) => rest - letters(tool), letters(document.querySelector("main"))),
    injected: document.querySelectorAll("main script, [onerror], [onload], [onclick]").length,
    plots: document.querySelectorAll("figure.plot").length,
    toggledAway: document.querySelectorAll("figure.plot[hidden]").length,
    plotsShown: count("figure.plot > svg"),
    items: document.querySelectorAll("[data-item]").length,
    itemsShown: [...document.querySelectorAll("[data-item]")].filter((item) => !item.hidden).length,
    toolsShown: count(".needs-script"),
    navigationShown: count(".contents"),
    marks: document.querySelectorAll("svg .mark").length,
    nativeTips: document.querySelectorAll("svg .mark > title").length,
    foldedParts: document.querySelectorAll("details:not([open])").length,
    color: style.color,
    background: style.backgroundColor,
  };
}

/** Where the keyboard is, and whether that can be seen. */
export function focused() {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    name: `${element.tagName.toLowerCase()} ${(element.getAttribute("aria-label") ?? element.textContent ?? "").trim().slice(0, 40)}`,
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
    inView: box.bottom > 0 && box.top < innerHeight,
  };
}

/** A column of a table as it stands: what it is sorted by, and the state of its heading. */
export function column([tableIndex, columnIndex]) {
  const table = document.querySelectorAll("table[data-sortable]")[tableIndex];
  const heading = table.tHead.rows[0].cells[columnIndex];
  return {
    sort: heading.getAttribute("aria-sort"),
    othersSorted: [...table.tHead.rows[0].cells].filter((other) => other !== heading && other.hasAttribute("aria-sort")).length,
    values: [...table.tBodies[0].rows].map((row) => {
      const cell = row.cells[columnIndex];
      return cell.dataset.order ?? cell.textContent.trim();
    }),
  };
}

/** The elements inside `id` that a filter has left, and how many there are. */
export function chosen(id) {
  const items = [...document.getElementById(id).querySelectorAll("[data-item]")];
  const left = items.filter((item) => item.checkVisibility());
  return {
    total: items.length,
    texts: left.map((item) => item.textContent.toLowerCase()),
    keys: left.map((item) => (item.dataset.keys ?? "").split(" ")),
    said: [...document.querySelectorAll(`[data-count="${id}"]`)].map((output) => output.textContent),
  };
}

/** A point of the window where a mark of a plot is on top, after scrolling there; null if none. */
export function pointOn(mark) {
  const shape = mark.querySelector(":scope :not(defs *):is(path, use, rect, circle)") ?? mark;
  shape.scrollIntoView({ block: "center", behavior: "instant" });
  const box = shape.getBoundingClientRect();
  const points = [{ x: box.x + box.width / 2, y: box.y + box.height / 2 }];
  if (shape.getTotalLength) {
    for (const share of [0.5, 0.37, 0.21, 0.83]) {
      const point = shape.getPointAtLength(share * shape.getTotalLength());
      points.push(point.matrixTransform(shape.getScreenCTM()));
    }
  }
  const whole = points.map(({ x, y }) => [Math.round(x), Math.round(y)]);
  return whole.find(([x, y]) => document.elementFromPoint(x, y)?.closest(".mark") === mark) ?? null;
}

/** The text beside the pointer; null while there is none. */
export function bubble() {
  const shown = document.querySelector(".bubble");
  const box = shown.getBoundingClientRect();
  if (shown.hidden) return null;
  return { text: shown.textContent, inside: box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight };
}

/** Wait until the window has been drawn anew. */
export function twoFrames() {
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}
