// Pictures of the page, for the documentation and for people who look at it: `screenshots.mjs FOLDER`.
import { copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fill, finish, newJournal, open, ROOT, serveIn } from "./page.mjs";

const SIZES = { narrow: [390, 844], usual: [1280, 800], large: [1920, 1080] };
const folder = process.argv[2];
mkdirSync(folder, { recursive: true });

const url = newJournal();
fill(url, "demo");
// The page shows the URL of the journal.
const server = await serveIn(dirname(url.slice("sqlite:///".length)), "sqlite:///runs.db", "--actions");
for (const colorScheme of ["light", "dark"]) {
  for (const [size, [width, height]] of Object.entries(SIZES)) {
    const { page, context, at } = await open(server, { colorScheme, viewport: { width, height } });
    const picture = async (name, hash, act) => {
      await at(hash);
      await page.waitForTimeout(900);
      await act?.();
      await page.screenshot({ path: join(folder, `${name}-${size}-${colorScheme}.png`) });
    };
    await picture("runs", "#/runs");
    const run = (key) => page.locator(".c-key a", { hasText: key }).first().getAttribute("href");
    const [order, crawl] = [await run("order-17"), await run("docs.example")];
    await picture("timeline", `${crawl}/timeline`, async () => {
      await page.locator(".timeline .grid-all .grid-row", { hasText: "failed" }).first().click();
      await page.waitForTimeout(200);
    });
    await picture("timeline-folded", `${order}/timeline`);
    await picture("graph", `${crawl}/graph`);
    await picture("state", `${crawl}/state?at=40`);
    await picture("diff", `${crawl}/state?at=24&diff=previous`);
    await picture("log", `${crawl}/log?at=12`);
    await picture("stream", `${crawl}/stream`);
    await picture("waiting", "#/waiting");
    await picture("workflows", "#/workflows");
    await picture("processes", "#/processes");
    await picture("fork", `${crawl}/timeline?at=30`, async () => {
      await page.keyboard.press("f");
      await page.waitForTimeout(500);
    });
    await context.close();
  }
}
for (const [name, shown] of [["runs", "light"], ["timeline", "light"], ["state", "light"], ["graph", "dark"]]) {
  copyFileSync(join(folder, `${name}-usual-${shown}.png`), join(ROOT, "docs", "pictures", `ui_${name}.png`));
}
await finish();
