// The URL is the view: everything that a page shows is behind its #, so that it can be sent and opened again.
import { signal } from "./dom.js";

const PAGES = ["runs", "run", "waiting", "workflows", "processes"];

function parsed() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  const page = PAGES.includes(parts[0]) ? parts[0] : "runs";
  return { page, parts: parts.slice(1), query: Object.fromEntries(new URLSearchParams(query || "")) };
}

export const route = signal(parsed());
addEventListener("hashchange", () => (route.value = parsed()));

export function to(page, parts = [], query = {}) {
  const there = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(there).toString();
  return `#/${[page, ...parts.map(encodeURIComponent)].join("/")}${text ? `?${text}` : ""}`;
}

export function go(page, parts, query) {
  location.hash = to(page, parts, query);
}

// Change a part of the view without a new entry in the history of the browser.
export function change(query) {
  const { page, parts, query: before } = route.value;
  history.replaceState(null, "", to(page, parts, { ...before, ...query }));
  route.value = parsed();
}
