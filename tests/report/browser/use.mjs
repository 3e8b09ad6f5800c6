// Uses a page as a reader would, by mouse and by keyboard, and says what came of it.
import { bubble, chosen, column, focused, pointOn, twoFrames } from "./measure.mjs";

const MOST_STOPS = 60; // of the keyboard: a gallery may have hundreds
const MOST_MARKS = 12;

/** Walk through the page with the tabulator key. */
export async function walk(page) {
  const stops = [];
  for (let step = 0; step < MOST_STOPS; step += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(focused);
    if (stop === null) break;
    stops.push(stop);
  }
  return stops;
}

/** Follow the first link of all, which leads past the head of the page. */
export async function skip(page) {
  await page.locator("a").first().press("Enter");
  return page.evaluate(() => document.activeElement.id);
}

/** Unfold what is folded, by keyboard; returns how many parts there are and how many it opened. */
export async function unfold(page) {
  const folded = page.locator("details:not([open])");
  const count = await folded.count();
  for (let step = 0; step < count; step += 1) await folded.first().locator("> summary").press("Enter");
  return { count, left: await folded.count() };
}

/** Sort every table by each of its columns: by mouse, then the other way round by keyboard. */
export async function sort(page) {
  const tables = await page.locator("table[data-sortable]").all();
  const results = [];
  for (const [place, table] of tables.entries()) {
    const buttons = await table.locator("thead th > button").all();
    for (const [index, button] of buttons.entries()) {
      const name = await button.innerText();
      await button.click();
      const byMouse = await page.evaluate(column, [place, index]);
      await button.press("Enter");
      const byKeyboard = await page.evaluate(column, [place, index]);
      results.push({ table: place, name, byMouse, byKeyboard });
    }
  }
  return results;
}

/** Search for the first word of the last item, then for nonsense, then for nothing. */
export async function search(page) {
  const results = [];
  for (const field of await page.locator("[data-search]").all()) {
    const target = await field.getAttribute("data-search");
    const items = page.locator(`[id="${target}"] [data-item]`);
    const text = (await items.last().textContent()) ?? "";
    const word = text.trim().split(/\s+/)[0].toLowerCase();
    const tried = {};
    for (const [what, typed] of Object.entries({ found: word, none: "qqqq zzzz", all: "" })) {
      await field.fill("");
      await field.pressSequentially(typed);
      tried[what] = await page.evaluate(chosen, target);
    }
    results.push({ target, word, ...tried });
  }
  return results;
}

/** Choose each of the first entries of every menu with the arrow keys. */
export async function pick(page) {
  const results = [];
  for (const menu of await page.locator("[data-pick]").all()) {
    const target = await menu.getAttribute("data-pick");
    const count = Math.min(4, await menu.locator("option").count());
    for (let step = 1; step < count; step += 1) {
      await menu.focus();
      await page.keyboard.press("ArrowDown");
      results.push({ target, key: await menu.inputValue(), ...(await page.evaluate(chosen, target)) });
    }
    await menu.selectOption({ index: 0 });
    results.push({ target, key: "", ...(await page.evaluate(chosen, target)) });
  }
  return results;
}

/** Follow the first link that picks, by keyboard. */
export async function pickByLink(page) {
  const link = page.locator("a[data-picks]").first();
  if (!(await link.count())) return null;
  const [key, target] = [await link.getAttribute("data-picks"), await link.getAttribute("data-target")];
  await link.focus();
  await page.keyboard.press("Enter");
  const menu = page.locator(`[data-pick="${target}"]`);
  const result = { key, value: await menu.inputValue(), ...(await page.evaluate(chosen, target)) };
  await menu.selectOption({ index: 0 });
  return result;
}

/** Press every button of every toggle: the first time by mouse, then by keyboard. */
export async function toggle(page) {
  const results = [];
  for (const group of await page.locator("[data-toggle]").all()) {
    const buttons = await group.locator("button[data-shows]").all();
    const parts = await Promise.all(buttons.map((button) => button.getAttribute("data-shows")));
    for (const how of ["mouse", "keyboard"]) {
      for (const [index, button] of buttons.entries()) {
        await (how === "mouse" ? button.click() : button.press("Space"));
        const shown = [];
        for (const part of parts) if (await page.locator(`[id="${part}"]`).isVisible()) shown.push(part);
        const pressed = await group.locator('[aria-pressed="true"]').evaluateAll((all) => all.map((one) => one.dataset.shows));
        results.push({ how, wanted: parts[index], shown, pressed });
      }
    }
    await buttons[0].click();
  }
  return results;
}

/** Put the pointer on marks of the plots: away again, out by Escape, out by scrolling; and tap. */
export async function hover(page) {
  const marks = await page.locator("svg .mark:visible").elementHandles();
  const stride = Math.max(1, Math.floor(marks.length / MOST_MARKS));
  const results = [];
  for (const mark of marks.filter((_, index) => index % stride === 0)) {
    const point = await mark.evaluate(pointOn);
    if (point === null) continue;
    await page.evaluate(twoFrames); // scrolling there hides what is shown, a frame later
    await page.mouse.move(...point);
    const on = await page.evaluate(bubble);
    await page.mouse.move(2, 2);
    const off = [await page.evaluate(bubble)];
    await page.mouse.move(...point);
    await page.keyboard.press("Escape");
    off.push(await page.evaluate(bubble));
    await page.touchscreen.tap(...point);
    const tapped = await page.evaluate(bubble);
    await page.evaluate(() => scrollBy(0, scrollY > 50 ? -40 : 40));
    await page.waitForFunction(() => document.querySelector(".bubble").hidden);
    results.push({ on, tapped, off });
  }
  return results;
}
