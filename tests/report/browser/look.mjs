// node look.mjs JOB: opens every page as its readers do and prints what it saw, as JSON.
//
// JOB is a file: {"browser": path, "pages": {name: path}}. Nothing is judged here.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

import { withBrowser, withPage } from "./browser.mjs";
import { content, layout } from "./measure.mjs";
import { hover, pick, pickByLink, search, skip, sort, toggle, unfold, walk } from "./use.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = {
  light: { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] },
  dark: { type: "rule", values: ["color-contrast"] }, // nothing else depends on colors
};
const PHONE = { width: 360, height: 740 };
const DESKTOP = { width: 1280, height: 900 };
const PAPER = { width: 680, height: 1000 }; // CSS pixels of A4 inside margins of 15 mm

/** Gather what goes wrong or goes out while a page is open. */
async function listen(page, wrong) {
  page.on("console", (message) => wrong.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => wrong.console.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    wrong.console.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith("data:") && !request.isNavigationRequest()) wrong.requests.push(request.url());
  });
  await page.exposeFunction("tellViolation", (text) => wrong.violations.push(text));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => tellViolation(`${event.violatedDirective} ${event.blockedURI}`));
  });
}

/** Return what axe-core finds by some of its rules, element by element. */
async function accessibility(page, rules) {
  const results = await page.evaluate(
    (runOnly) => axe.run(document, { runOnly, resultTypes: ["violations"], preload: false }),
    rules,
  );
  return results.violations.flatMap((rule) =>
    rule.nodes.map((node) => ({ impact: node.impact, rule: rule.id, where: node.target.join(" "), why: node.failureSummary })),
  );
}

/** Look at a page in every kind of window: how it fills it, and what axe-core finds. */
async function views(page) {
  const seen = [];
  await page.evaluate(AXE);
  for (const viewport of [DESKTOP, PHONE]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      seen.push({
        view: `${viewport.width} px, ${colorScheme}`,
        layout: await page.evaluate(layout),
        content: await page.evaluate(content),
        axe: await accessibility(page, RULES[colorScheme]),
      });
    }
  }
  return seen;
}

/** Do everything with a page that a reader with mouse and keyboard can do. */
async function use(page) {
  return {
    stops: await walk(page),
    skip: await skip(page),
    unfold: await unfold(page),
    hover: await hover(page),
    sort: await sort(page),
    search: await search(page),
    pick: await pick(page),
    pickByLink: await pickByLink(page),
    toggle: await toggle(page),
  };
}

/** Print a page from a dark screen onto A4. */
async function print(page) {
  await page.setViewportSize(PAPER);
  await page.emulateMedia({ colorScheme: "dark" });
  const bytes = (await page.pdf({ preferCSSPageSize: true })).length;
  await page.emulateMedia({ media: "print" });
  return { bytes, layout: await page.evaluate(layout), content: await page.evaluate(content) };
}

async function look(browser, name, path) {
  const file = pathToFileURL(path).href;
  const wrong = { console: [], requests: [], violations: [] };
  const seen = await withPage(
    browser,
    file,
    { viewport: DESKTOP, reducedMotion: "reduce", hasTouch: true },
    async (page) => {
      const looked = { views: await views(page), print: await print(page) };
      await page.emulateMedia({ media: "screen", colorScheme: "light" });
      await page.setViewportSize(DESKTOP);
      await page.reload();
      return { ...looked, used: await use(page) };
    },
    (page) => listen(page, wrong),
  );
  const plain = await withPage(browser, file, { viewport: PHONE, javaScriptEnabled: false }, (page) => page.evaluate(content));
  return { name, ...wrong, ...seen, plain };
}

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const looks = await withBrowser(job.browser, async (browser) => {
  const done = [];
  for (const [name, path] of Object.entries(job.pages)) done.push(await look(browser, name, path));
  return done;
});
process.stdout.write(JSON.stringify(looks));
