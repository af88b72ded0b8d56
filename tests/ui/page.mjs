// What the tests of the page share: journals, servers, and a browser that notices what a page must not do.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = join(HERE, "..", "..");
const require = createRequire(join(ROOT, "target", "browser", "package.json"));
const { chromium } = require("playwright-core");
export const AXE = require.resolve("axe-core/axe.min.js");
const PYTHON = join(ROOT, ".venv", "bin", "python");

const folders = [];
const processes = new Set();

export function newJournal() {
  const folder = mkdtempSync(join(tmpdir(), "treadle-ui-"));
  folders.push(folder);
  return `sqlite:///${join(folder, "runs.db")}`;
}

export function fill(url, ...kind) {
  const done = spawnSync(PYTHON, [join(HERE, "fill.py"), url, ...kind.map(String)], { encoding: "utf8", timeout: 120_000 });
  if (done.status !== 0) throw new Error(`fill.py has failed: ${done.stderr}`);
}

function started(arguments_, isReady, cwd = HERE) {
  const child = spawn(PYTHON, arguments_, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  processes.add(child);
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (part) => {
      text += part;
      const found = isReady(text);
      if (found) resolve([child, found]);
    });
    child.on("exit", (code) => (processes.delete(child), reject(new Error(`it has ended with ${code} after ${text}`))));
  });
}

export async function worker(url) {
  return (await started([join(HERE, "fill.py"), url, "live"], (text) => text.includes("going on")))[0];
}

export const serve = (url, ...options) => serveIn(HERE, url, ...options);

export async function serveIn(folder, url, ...options) {
  const [child, found] = await started(["-m", "treadle", "ui", url, ...options], (text) => /http:\S+\n/.exec(text), folder);
  return { child, url: found[0].trim(), base: found[0].trim().split("#")[0] };
}

export function kill(child, signal = "SIGKILL") {
  child.kill(signal);
  return new Promise((resolve) => (child.exitCode === null && child.signalCode === null ? child.once("exit", resolve) : resolve()));
}

let browser = null;

// A page, and the list of what it did that it must not do: errors, reports of its policy, requests to other servers.
export async function open(server, options = {}) {
  browser ||= await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-background-networking", "--enable-precise-memory-info"],
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.stack || error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !/the server responded with a status of 4/.test(message.text())) faults.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(server.base) && !request.url().startsWith("blob:")) faults.push(`request: ${request.url()}`);
  });
  page.on("dialog", (dialog) => (faults.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  await page.goto(server.url);
  await page.waitForFunction(() => {
    const empty = document.querySelector(".grid-empty");
    return document.querySelector(".problem, .grid [data-at]") || (empty && empty.textContent !== "Loading…");
  });
  const at = (hash) => page.evaluate((to) => void (location.hash = to), hash);
  return { page, context, faults, at };
}

export async function finish() {
  await browser?.close();
  browser = null;
  await Promise.all([...processes].map((child) => kill(child)));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}
