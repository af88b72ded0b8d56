// The frame of every page: what leads where, the keys, the palette.
import { html, render, useEffect, useRef, useState, signal } from "./dom.js";
import { get, isPaused, journal, liveState, takeToken } from "./api.js";
import { Dialogs, close, dialog, open } from "./dialog.js";
import { visible } from "./format.js";
import { Problem } from "./parts.js";
import { Processes, Waiting, Workflows } from "./pages.js";
import { go, route, to } from "./route.js";
import { Run } from "./run.js";
import { Runs } from "./runs.js";
import { choice, nextTheme } from "./theme.js";

const PAGES = { runs: Runs, run: Run, waiting: Waiting, workflows: Workflows, processes: Processes };
const LINKS = [
  ["runs", "Runs"],
  ["waiting", "Waiting"],
  ["workflows", "Workflows"],
  ["processes", "Processes"],
];
const trouble = signal(null);

function Page() {
  const { page } = route.value;
  const Shown = PAGES[page] || Runs;
  return html`
    <a class="skip" href="#content" onClick=${skip}>To the content</a>
    <header class="top">
      <a class="brand" href=${to("runs")}><svg viewBox="0 0 32 32" aria-hidden="true"><path d="M6 8h20M6 16h11M6 24h16" /><circle cx="24" cy="16" r="3" /></svg>treadle</a>
      <nav aria-label="pages">${LINKS.map(
        ([name, title]) => html`<a key=${name} href=${to(name)} aria-current=${name === page || (name === "runs" && page === "run") ? "page" : undefined}>${title}</a>`,
      )}</nav>
      <span class="grow"></span>
      ${journal.value && html`<span class="where" title=${journal.value.url}>${visible(journal.value.url)}</span>`}
      <${Live} />
      <button type="button" class="bare" onClick=${nextTheme} aria-label=${`theme: ${choice.value}`} title=${`Theme: ${choice.value}  t`}>
        <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">${
          choice.value === "dark" ? html`<path d="M12.8 9.6A5.5 5.5 0 0 1 6.4 3.2a5.5 5.5 0 1 0 6.4 6.4z" />` : choice.value === "light" ? html`<circle cx="8" cy="8" r="3" /><path d="M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1" />` : html`<circle cx="8" cy="8" r="5.5" /><path d="M8 2.5v11" /><path d="M8 2.5a5.5 5.5 0 0 1 0 11z" fill="currentColor" />`
        }</svg>
      </button>
      <button type="button" class="bare" onClick=${help} aria-label="keys" title="Keys  ?"><span aria-hidden="true" class="question">?</span></button>
    </header>
    <div id="content" tabindex="-1">
      ${trouble.value ? html`<main class="page-plain"><${Problem} error=${trouble.value} /></main>` : journal.value && html`<${Shown} />`}
    </div>
    <${Dialogs} />
  `;
}

function skip(event) {
  event.preventDefault();
  document.getElementById("content").focus();
}

const LIVE = { live: "live", paused: "not updated", lost: "the server does not answer", off: "…" };

function Live() {
  const shown = isPaused.value ? "paused" : liveState.value;
  if (shown === "off" && route.value.page !== "run" && route.value.page !== "runs") return null;
  return html`<button type="button" class=${`live l-${shown}`} aria-pressed=${isPaused.value} title="Updates  ." onClick=${() => (isPaused.value = !isPaused.value)}>
    <i aria-hidden="true"></i><span>${LIVE[shown]}</span></button>`;
}

const KEYS = [
  ["/", "filter the runs"],
  ["j  k", "next and previous row"],
  ["Enter", "open the row"],
  ["[  ]", "previous and next record"],
  ["{  }", "previous and next failure"],
  ["d", "what the record has changed"],
  ["f", "fork the run"],
  ["z", "fit the timeline"],
  ["g r  g w  g p", "runs, workflows, processes"],
  ["g a", "waiting"],
  ["t", "theme"],
  [".", "stop and start updates"],
  ["Ctrl-K", "go to anything"],
  ["?", "these keys"],
];

function help() {
  open({
    title: "Keys",
    body: html`<dl class="keylist">${KEYS.map(([key, text]) => html`<div key=${key}><dt>${key.split("  ").map((one) => html`<kbd key=${one}>${one}</kbd> `)}</dt><dd>${text}</dd></div>`)}</dl>
      <div class="buttons"><button type="button" class="main" onClick=${close} autofocus>Close</button></div>`,
  });
}

const COMMANDS = [
  ["Runs", () => go("runs")],
  ["Runs that failed", () => go("runs", [], { q: "status:failed,stranded" })],
  ["Runs that run", () => go("runs", [], { q: "status:running" })],
  ["Runs that wait", () => go("runs", [], { q: "status:waiting" })],
  ["Waiting", () => go("waiting")],
  ["Workflows", () => go("workflows")],
  ["Processes", () => go("processes")],
  ["Theme", nextTheme],
  ["Keys", help],
  ...["timeline", "graph", "state", "log", "stream"].map((tab) => [
    `This run: ${tab}`,
    () => route.value.page === "run" && go("run", [route.value.parts[0], tab], route.value.query),
  ]),
];
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function palette() {
  open({ title: "Go to", body: html`<${Palette} />` });
}

function Palette() {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef(null);
  const words = text.trim().toLowerCase();
  const found = COMMANDS.filter(([name]) => name.toLowerCase().includes(words) && (!name.startsWith("This run") || route.value.page === "run"));
  if (ID.test(words)) found.unshift([`Run ${words}`, () => go("run", [words])]);
  if (words && !ID.test(words)) found.push([`Filter the runs: ${text.trim()}`, () => go("runs", [], { q: text.trim() })]);
  const chosen = Math.min(at, found.length - 1);
  const take = ([, work]) => {
    close();
    work();
  };
  const pressed = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      setAt((chosen + step + found.length) % found.length);
    } else if (event.key === "Enter" && found[chosen]) {
      event.preventDefault();
      take(found[chosen]);
    }
  };
  return html`<div class="palette">
    <input
      role="combobox" aria-expanded="true" aria-controls="palette-list" aria-activedescendant=${found[chosen] ? `palette-${chosen}` : undefined} aria-label="go to"
      placeholder="A page, the id of a run, or a filter" value=${text} autofocus onInput=${(event) => (setText(event.target.value), setAt(0))} onKeyDown=${pressed}
    />
    <ul id="palette-list" role="listbox" aria-label="where to" ref=${list}>${found.slice(0, 12).map(
      (it, i) => html`<li key=${it[0]} id=${`palette-${i}`} role="option" aria-selected=${i === chosen} onClick=${() => take(it)}>${visible(it[0])}</li>`,
    )}</ul></div>`;
}

let isGoing = 0;

function grid() {
  return document.querySelector("#content .grid");
}

const record = (detail) => () => dispatchEvent(new CustomEvent("record-step", { detail }));
const row = (name, detail) => () => grid()?.dispatchEvent(new CustomEvent(name, { detail }));
const ON = {
  "/": () => {
    if (route.value.page !== "runs") go("runs");
    setTimeout(() => document.getElementById("filter")?.focus(), 50);
  },
  j: row("row-step", 1),
  k: row("row-step", -1),
  "[": record("previous"),
  "]": record("next"),
  "{": record("failure-before"),
  "}": record("failure-after"),
  d: record("diff"),
  f: record("fork"),
  z: () => dispatchEvent(new CustomEvent("timeline-fit")),
  t: nextTheme,
  ".": () => (isPaused.value = !isPaused.value),
  "?": help,
};
const GO = { r: "runs", w: "workflows", p: "processes", a: "waiting" };

addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (dialog.value) close();
    else palette();
    return;
  }
  const isTyping = event.target.closest?.("input:not([type=range],[type=checkbox]),textarea,select");
  if (event.key === "Escape" && isTyping) event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping || dialog.value) return;
  if (event.key === "Enter" && event.target === document.body) return row("row-open")();
  if (Date.now() - isGoing < 1200 && GO[event.key]) {
    isGoing = 0;
    event.preventDefault();
    return go(GO[event.key]);
  }
  if (event.key === "g") return void (isGoing = Date.now());
  if (ON[event.key]) {
    event.preventDefault();
    ON[event.key]();
  }
});

takeToken();
get("journal").then(
  (it) => (journal.value = it),
  (error) => (trouble.value = error),
);
render(html`<${Page} />`, document.getElementById("page"));
