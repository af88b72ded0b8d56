// Every page and key, in a real browser on a real server.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { AXE, fill, finish, newJournal, open, serve } from "./page.mjs";

let server;
let reader;

before(async () => {
  const url = newJournal();
  fill(url, "few");
  server = await serve(url, "--actions");
  reader = await serve(url);
});
after(finish);

const rows = (page) => page.locator(".grid-all .grid-row");

async function runOf(page, key) {
  return page.locator(".c-key a", { hasText: key }).first().getAttribute("href");
}

test("the token goes from the URL into the tab, and nothing is asked without it", async () => {
  const { page, context, faults } = await open(server);
  assert.equal(await rows(page).count(), 3);
  assert.ok(!page.url().includes("token"));
  assert.ok(await page.evaluate(() => sessionStorage.getItem("treadle.token")));
  const stranger = await context.newPage();
  await stranger.goto(server.base);
  await stranger.waitForSelector(".problem");
  assert.match(await stranger.locator(".problem").textContent(), /token/);
  assert.equal((await context.cookies()).length, 0);
  assert.deepEqual(faults, []);
  await context.close();
});

test("a filter is the URL, is explained when it makes no sense, and is saved as a view", async () => {
  const { page, context, faults } = await open(server);
  await page.keyboard.press("/");
  await page.waitForFunction(() => document.activeElement.id === "filter");
  await page.keyboard.type("status:failed");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll(".grid-all .grid-row").length === 1);
  assert.match(page.url(), /q=status/);
  await page.getByRole("button", { name: "Save this view" }).click();
  await page.fill("#filter", "status:done");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#filter-error");
  assert.match(await page.locator("#filter-error").textContent(), /completed/);
  await page.locator(".views a", { hasText: "failed" }).last().click();
  await page.waitForFunction(() => document.querySelectorAll(".grid-all .grid-row").length === 1);
  await page.reload();
  await page.waitForFunction(() => document.querySelectorAll(".grid-all .grid-row").length === 1);
  assert.deepEqual(faults, []);
  await context.close();
});

test("rows are reached and opened by keys", async () => {
  const { page, context, faults } = await open(server);
  const focused = (at) => page.waitForFunction((row) => document.activeElement.dataset.at === row, at);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await focused("1");
  await page.keyboard.press("k");
  await focused("0");
  // Keys that come before the page is drawn again are steps of their own.
  await page.evaluate(() => {
    for (const key of "jj") document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  });
  await focused("2");
  await page.keyboard.press("Enter");
  await page.waitForSelector(".page-run");
  for (const [keys, heading] of [["gw", "Workflows"], ["gp", "Processes"], ["ga", "Waiting"], ["gr", "Runs"]]) {
    for (const key of keys) await page.keyboard.press(key);
    await page.waitForFunction((text) => document.querySelector("h1")?.textContent === text, heading);
  }
  assert.deepEqual(faults, []);
  await context.close();
});

test("the palette leads to pages, runs and filters", async () => {
  const { page, context, faults } = await open(server);
  const id = (await runOf(page, "pieces")).split("/").pop();
  for (const [text, selector] of [["workf", ".card"], [id, ".page-run"], ["status:failed", ".page-runs"]]) {
    await page.keyboard.press("Control+k");
    await page.waitForSelector("dialog[open] .palette");
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
    await page.waitForSelector(selector);
    await page.waitForSelector("dialog", { state: "detached" });
  }
  assert.match(page.url(), /status/);
  assert.deepEqual(faults, []);
  await context.close();
});

test("one scrubber sets the record that every tab shows", async () => {
  const { page, context, faults, at } = await open(server);
  const run = await runOf(page, "pieces");
  await at(`${run}/state?at=2`);
  await page.waitForFunction(() => document.querySelectorAll(".keys tbody tr").length === 1);
  await page.keyboard.press("]");
  await page.waitForFunction(() => document.querySelectorAll(".keys tbody tr").length === 2);
  assert.match(page.url(), /at=3/);
  await page.keyboard.press("[");
  await page.waitForFunction(() => document.querySelectorAll(".keys tbody tr").length === 1);
  await page.keyboard.press("d");
  await page.waitForSelector(".keys.diff .d-added");
  await page.getByRole("tab", { name: "Log" }).click();
  await page.waitForSelector('.log [aria-selected="true"]');
  assert.match(await page.locator('.log [aria-selected="true"]').textContent(), /^2set/);
  await page.keyboard.press("}");
  await page.waitForFunction(() => !location.hash.includes("at=2"));
  await page.getByRole("tab", { name: "Graph" }).click();
  await page.waitForSelector(".graph .node");
  await page.getByRole("tab", { name: "Timeline" }).click();
  await page.waitForSelector(".canvas-box canvas");
  await page.keyboard.press("z");
  await page.getByRole("button", { name: "Now" }).click();
  assert.ok(!page.url().includes("at="));
  assert.deepEqual(faults, []);
  await context.close();
});

test("the table of attempts says what the canvas shows, and an attempt tells its cause", async () => {
  const { page, context, faults, at } = await open(server);
  await at(`${await runOf(page, "pieces")}/timeline`);
  await page.waitForSelector('[aria-label="Attempts"]');
  assert.equal(await page.locator('[aria-label="Attempts"]').getAttribute("aria-rowcount"), "6");
  await page.locator(".timeline .grid-all .grid-row", { hasText: "failed" }).first().click();
  const inspector = page.locator(".inspector");
  assert.match(await inspector.textContent(), /ConnectionError/);
  await inspector.getByRole("button", { name: /spread/ }).click();
  assert.match(await inspector.locator("h2").textContent(), /spread/);
  assert.deepEqual(faults, []);
  await context.close();
});

test("hostile values are texts, large numbers are exact, and keys keep their order", async () => {
  const { page, context, faults, at } = await open(server);
  await at(`${await runOf(page, "pieces")}/state`);
  await page.waitForSelector(".keys");
  const text = await page.locator(".keys").textContent();
  assert.ok(text.includes("9007199254740993"));
  assert.ok(text.includes("</script><script>alert(1)</script>"));
  assert.ok(text.includes("\\u202e\\u0000"));
  assert.ok(!text.includes("\u202e"));
  assert.match(text, /not unpickled/);
  const keys = await page.locator(".keys tr", { hasText: "keys" }).locator(".j-key").allTextContents();
  assert.deepEqual(keys.slice(0, 2), ["10", "2"]);
  assert.equal(await page.locator("#page script, #page img").count(), 0);
  for (const tab of ["log", "stream", "timeline", "graph"]) {
    await at(`${await page.evaluate(() => location.hash.split("/").slice(0, 3).join("/"))}/${tab}`);
    await page.waitForTimeout(200);
  }
  assert.deepEqual(faults, []);
  await context.close();
});

test("a run is forked with an edit, sent to, and deleted after a question", async () => {
  const { page, context, faults, at } = await open(server);
  const run = await runOf(page, "wrong");
  await at(`${run}?at=0`);
  await page.waitForSelector(".actions button");
  await page.keyboard.press("f");
  await page.waitForSelector("dialog .edits, dialog p");
  await page.locator("dialog").getByRole("button", { name: "Fork" }).click();
  await page.waitForFunction((before) => location.hash.startsWith("#/run/") && !location.hash.startsWith(before), run);
  await page.waitForSelector(".run-title .s-running");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.locator("dialog").getByRole("button", { name: "No" }).click();
  await page.waitForSelector("dialog", { state: "detached" });
  await at(run);
  await page.waitForSelector(".run-title .s-failed");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.locator("dialog").getByRole("button", { name: "Delete" }).click();
  await page.waitForSelector(".page-runs");
  assert.deepEqual(faults, []);
  await context.close();
});

test("a page that may only read has no actions", async () => {
  const { page, context, faults, at } = await open(reader);
  assert.equal(await page.locator("input[type=checkbox]").count(), 0);
  await at(`${await runOf(page, "question")}`);
  await page.waitForSelector(".why");
  assert.deepEqual(await page.locator(".actions button").allTextContents(), ["Export"]);
  assert.deepEqual(faults, []);
  await context.close();
});

test("keys that hold something back do nothing while a text is typed", async () => {
  const { page, context } = await open(server);
  await page.focus("#filter");
  await page.keyboard.type("gw?t.");
  assert.equal(await page.inputValue("#filter"), "gw?t.");
  assert.match(page.url(), /#\/runs/);
  assert.equal(await page.locator("dialog").count(), 0);
  await context.close();
});

for (const [name, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["narrow", { viewport: { width: 390, height: 800 } }],
  ["forced colours", { forcedColors: "active" }],
  ["reduced motion", { reducedMotion: "reduce" }],
]) {
  test(`every page is accessible: ${name}`, async () => {
    const { page, context, faults, at } = await open(server, { ...options, bypassCSP: true });
    const axe = readFileSync(AXE, "utf8");
    await page.evaluate(axe);
    const run = await runOf(page, "pieces");
    const pages = ["#/runs", `${run}/timeline`, `${run}/graph`, `${run}/state`, `${run}/state?at=5&diff=previous`, `${run}/log`, `${run}/stream`];
    for (const hash of [...pages, "#/waiting", "#/workflows", "#/processes"]) {
      await at(hash);
      await page.waitForTimeout(400);
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      const found = violations.map((it) => `${hash}: ${it.id}: ${it.nodes.map((node) => node.html.slice(0, 160)).join("; ")}`);
      assert.deepEqual(found, []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${hash} is wider than the window`);
    }
    assert.deepEqual(faults, []);
    await context.close();
  });
}

test("the theme is switched and kept", async () => {
  const { page, context } = await open(server, { colorScheme: "light" });
  const back = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await back();
  await page.keyboard.press("t");
  assert.equal(await back(), light);
  await page.keyboard.press("t");
  const dark = await back();
  assert.notEqual(dark, light);
  await page.reload();
  await page.waitForSelector(".grid");
  assert.equal(await back(), dark);
  await context.close();
});
