// What is asked of the server. The token of a page for one person comes in the URL, behind the #, which no server is sent;
// it is kept for this tab alone.
import { signal } from "./dom.js";

const KEY = "treadle.token";

// "live", "paused", "lost" or "off".
export const liveState = signal("off");
export const isPaused = signal(false);
// What is known of the journal: its URL, and what this page may do.
export const journal = signal(null);
// How far the clock of the server is ahead of the one here, in seconds.
export const ahead = signal(0);

export class Refusal extends Error {
  constructor(status, body) {
    super(body.text || `the server has answered ${status}`);
    this.status = status;
    this.word = body.word;
  }
}

export function takeToken() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(KEY, found[1]);
  history.replaceState(null, "", `${location.pathname}${location.search}#/runs`);
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

function address(path, query = {}) {
  const there = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(there).toString();
  return `api/${path}${text ? `?${text}` : ""}`;
}

async function asked(path, query, options) {
  let response;
  try {
    response = await fetch(address(path, query), { ...options, credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { text: "the server does not answer" });
  }
  if (!response.ok) {
    let body = {};
    try {
      body = await response.json();
    } catch {
      // The status says enough.
    }
    throw new Refusal(response.status, body);
  }
  return response;
}

export async function get(path, query, signal) {
  const body = await (await asked(path, query, { headers: headers(), signal })).json();
  if (typeof body.now === "number") ahead.value = body.now - Date.now() / 1000;
  return body;
}

export async function bytes(path, query, signal) {
  return (await asked(path, query, { headers: headers(), signal })).arrayBuffer();
}

export async function act(run, action, body = {}) {
  const id = encodeURIComponent(run);
  const options =
    action === "delete"
      ? { method: "DELETE", headers: headers() }
      : { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) };
  const path = action === "delete" ? `run/${id}` : `run/${id}/${action}`;
  return (await asked(path, {}, options)).json();
}

export function may(action) {
  return !!journal.value && journal.value.actions.includes(action);
}

export function now() {
  return Date.now() / 1000 + ahead.value;
}

// Follow what changes until the function that this returns is called. One stream serves the list and the run.
export function follow(query, handlers) {
  let current = null;
  let isOver = false;
  let wake = () => {};
  const waits = (seconds) =>
    new Promise((done) => {
      const timer = setTimeout(done, seconds * 1000);
      wake = () => (clearTimeout(timer), done());
    });
  const isOff = () => isPaused.value || document.hidden;
  const changed = () => {
    if (isOff()) current?.abort();
    else wake();
  };
  document.addEventListener("visibilitychange", changed);
  const forget = isPaused.subscribe(changed);
  (async () => {
    let failures = 0;
    while (!isOver) {
      if (isOff()) {
        liveState.value = isPaused.value ? "paused" : "off";
        await waits(3600);
        continue;
      }
      current = new AbortController();
      try {
        const response = await asked("live", query, { headers: headers(), signal: current.signal });
        liveState.value = "live";
        failures = 0;
        await read(response.body.getReader(), handlers);
      } catch (error) {
        if (isOver || error.name === "AbortError") continue;
        liveState.value = "lost";
        if ([400, 401, 403, 404].includes(error.status)) return;
        failures += 1;
        await waits(Math.min(0.5 * 2 ** failures, 10));
      }
    }
  })();
  return () => {
    isOver = true;
    liveState.value = "off";
    document.removeEventListener("visibilitychange", changed);
    forget();
    current?.abort();
    wake();
  };
}

async function read(reader, handlers) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
      const data = lines.find((line) => line.startsWith("data: "))?.slice(6);
      if (!name || !data) continue;
      const body = JSON.parse(data);
      if (typeof body.now === "number") ahead.value = body.now - Date.now() / 1000;
      handlers[name]?.(body);
    }
  }
}
