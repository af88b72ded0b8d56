// What changes is seen as it happens, while the process that executes a run is killed and another one takes it over.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fill, finish, kill, newJournal, open, serve, worker } from "./page.mjs";

let url;
let server;

before(async () => {
  url = newJournal();
  fill(url, "few");
  server = await serve(url);
});
after(finish);

const records = (page) =>
  page.evaluate(() => Number([...document.querySelectorAll(".c-key")].find((it) => it.textContent.includes("slow"))?.parentElement.querySelector(".c-records").textContent.replace(/,/g, "") || 0));

test("a run is seen to begin, to go on, to stop with its process, and to go on in another one", async () => {
  const { page, context, faults, at } = await open(server);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  const focused = await page.evaluate(() => document.activeElement.textContent);
  const first = await worker(url);
  await page.waitForFunction(() => document.querySelector(".grid-all")?.textContent.includes("slow"));
  // The row that had the focus has it still, though another one came on top.
  const kept = await page.evaluate(() => document.activeElement.querySelector(".c-key")?.textContent);
  assert.ok(focused.includes(kept), `${focused} had the focus, and now ${kept}`);
  const before = await records(page);
  await page.waitForFunction((n) => Number([...document.querySelectorAll(".c-key")].find((it) => it.textContent.includes("slow")).parentElement.querySelector(".c-records").textContent.replace(/,/g, "")) > n, before);
  await at(await page.locator(".c-key a", { hasText: "slow" }).getAttribute("href"));
  await page.waitForSelector(".page-run");
  const owner = () => page.evaluate(() => [...document.querySelectorAll(".facts dt")].find((it) => it.textContent === "Process")?.nextSibling?.querySelector?.("code")?.title || "");
  await page.waitForFunction(() => [...document.querySelectorAll(".facts dt")].some((it) => it.textContent === "Process"));
  const was = await owner();
  await kill(first);
  const second = await worker(url);
  await page.waitForFunction((before) => {
    const now = [...document.querySelectorAll(".facts dt")].find((it) => it.textContent === "Process")?.nextSibling?.querySelector?.("code")?.title;
    return now && now !== before;
  }, was);
  await page.locator(".tabs a", { hasText: "Stream" }).click();
  await page.waitForSelector(".log .grid-all .grid-row");
  const events = () => page.locator('.grid[aria-label="Stream"]').getAttribute("aria-rowcount").then(Number);
  const had = await events();
  await page.waitForFunction((n) => Number(document.querySelector('.grid[aria-label="Stream"]').getAttribute("aria-rowcount")) > n, had);
  // A page whose updates are stopped shows nothing new.
  await page.keyboard.press(".");
  await page.waitForSelector(".l-paused");
  await page.waitForTimeout(600);
  const stopped = await events();
  await page.waitForTimeout(900);
  assert.equal(await events(), stopped);
  await page.keyboard.press(".");
  await page.waitForFunction((n) => Number(document.querySelector('.grid[aria-label="Stream"]').getAttribute("aria-rowcount")) > n, stopped);
  await kill(second);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a server that does not answer is said so", async () => {
  const own = await serve(url);
  const { page, context } = await open(own);
  await page.waitForSelector(".l-live");
  await kill(own.child, "SIGTERM");
  await page.waitForSelector(".l-lost");
  assert.match(await page.locator(".live").textContent(), /does not answer/);
  await context.close();
});
