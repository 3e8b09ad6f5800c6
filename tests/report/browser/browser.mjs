// One headless browser for one piece of work: closed whatever happens, ended when it takes too long.
import { chromium } from "playwright-core";

const STEP_MS = 60_000; // one click or one page; a busy machine needs a few seconds
const ALL_MS = 540_000;

/** Run `work(browser)` and return what it returns. */
export async function withBrowser(executablePath, work) {
  const browser = await chromium.launch({ executablePath, timeout: STEP_MS });
  const bell = setTimeout(() => {
    console.error(`The browser took more than ${ALL_MS / 1000} seconds and was closed.`);
    void browser.close();
  }, ALL_MS);
  try {
    return await work(browser);
  } finally {
    clearTimeout(bell);
    await browser.close();
  }
}

/** Run `work(page)` on a file in a window of its own. `view` is what `newContext` takes. */
export async function withPage(browser, file, view, work, before = async () => {}) {
  const context = await browser.newContext(view);
  context.setDefaultTimeout(STEP_MS);
  try {
    const page = await context.newPage();
    await before(page);
    await page.goto(file, { waitUntil: "load" });
    return await work(page);
  } finally {
    await context.close();
  }
}
