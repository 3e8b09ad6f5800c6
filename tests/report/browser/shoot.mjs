// node shoot.mjs JOB: takes pictures of pages.
//
// JOB is a file: {"browser": path, "pictures": [{"page": path, "out": path, "width": 1280,
// "height": 800, "scheme": "light", "from": "#id"}]}. A height of 0 takes the whole page; `from`
// names the element at the upper edge.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

import { withBrowser, withPage } from "./browser.mjs";

async function shoot(browser, { page: path, out, width, height, scheme, from }) {
  const viewport = { width, height: height || 900 };
  const view = { viewport, colorScheme: scheme, reducedMotion: "reduce" };
  await withPage(browser, pathToFileURL(path).href, view, async (page) => {
    if (from) await page.locator(from).evaluate((element) => element.scrollIntoView({ block: "start" }));
    await page.screenshot({ path: out, fullPage: height === 0 });
  });
}

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
await withBrowser(job.browser, async (browser) => {
  for (const picture of job.pictures) await shoot(browser, picture);
});
