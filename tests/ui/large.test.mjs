// Many runs, and runs of many attempts: the page stays small and quick.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fill, finish, newJournal, open, serve } from "./page.mjs";

const RUNS = Number(process.env.RUNS || 100_000);
const ATTEMPTS = Number(process.env.ATTEMPTS || 100_000);
let server;

before(async () => {
  const url = newJournal();
  fill(url, "wide", ATTEMPTS);
  fill(url, "runs", RUNS);
  server = await serve(url);
});
after(finish);

test("of 100,000 runs no more than 60 rows are there, and the count is capped", async (t) => {
  const { page, context, faults } = await open(server);
  await page.waitForSelector(".grid-all .grid-row .c-key a");
  const painted = await page.evaluate(() => {
    const answer = performance.getEntriesByType("resource").find((it) => it.name.includes("/api/runs?"));
    return answer.responseEnd;
  });
  const rows = () => page.locator(".grid-all .grid-row").count();
  assert.ok((await rows()) <= 60);
  await page.waitForFunction(() => document.querySelector(".counted").textContent.includes("10,000+"));
  for (let turn = 0; turn < 30; turn += 1) {
    await page.evaluate(() => document.querySelector(".grid").scrollBy(0, 4000));
    await page.waitForTimeout(30);
    assert.ok((await rows()) <= 60);
  }
  await page.waitForFunction(() => document.querySelectorAll(".grid-all .grid-row .c-key a").length > 10);
  t.diagnostic(`the first answer was there after ${Math.round(painted)} ms`);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a run of 100,000 attempts is opened, its fan-out is collapsed, and it is panned", async (t) => {
  const { page, context, faults, at } = await open(server);
  await page.fill("#filter", "workflow:wide");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".c-key a");
  const run = await page.locator(".c-key a").first().getAttribute("href");
  const began = Date.now();
  await at(`${run}/timeline`);
  await page.waitForFunction((n) => Number(document.querySelector('[aria-label="Attempts"]')?.getAttribute("aria-rowcount")) > n, ATTEMPTS);
  t.diagnostic(`opened after ${Date.now() - began} ms`);
  assert.ok((await page.locator(".timeline .grid-all .grid-row").count()) <= 60);
  const frames = await page.evaluate(async () => {
    const canvas = document.querySelector("canvas");
    const took = [];
    for (let n = 0; n < 60; n += 1) {
      const start = performance.now();
      canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: n < 30 ? -40 : 40, ctrlKey: true, cancelable: true, bubbles: true }));
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      took.push(performance.now() - start);
    }
    return took.sort((a, b) => a - b);
  });
  const heap = await page.evaluate(() => performance.memory.usedJSHeapSize / 1e6);
  t.diagnostic(`a frame: median ${frames[30].toFixed(1)} ms, p95 ${frames[57].toFixed(1)} ms; heap ${heap.toFixed(0)} MB`);
  assert.ok(heap < 150, `the heap has ${heap} MB`);
  await at(`${run}/log`);
  await page.waitForSelector(".log .grid-all .grid-row .what");
  await at(`${run}/log?at=250000`);
  await page.waitForSelector('.log [aria-selected="true"]');
  assert.match(await page.locator('.log [aria-selected="true"]').textContent(), /^250,000/);
  await page.evaluate(() => (document.querySelector(".grid").scrollTop = 5_000_000));
  await page.waitForFunction(() => [...document.querySelectorAll(".log .c-record")].some((it) => Number(it.textContent.replace(/,/g, "")) > 100_000));
  assert.ok((await page.locator(".log .grid-all .grid-row").count()) <= 60);
  assert.deepEqual(faults, []);
  await context.close();
});
