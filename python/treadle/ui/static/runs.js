// The list of runs: the filter is the URL, rows come page by page, and change while they are looked at.
import { html, signal, useEffect, useRef, useState } from "./dom.js";
import { follow, get, may, now } from "./api.js";
import { confirmAction } from "./dialog.js";
import { ago, count, lasts, moment, short, visible } from "./format.js";
import { Grid } from "./grid.js";
import { Problem, Status } from "./parts.js";
import { change, go, route, to } from "./route.js";

const PAGE = 100;
const VIEWS = [
  ["All", ""],
  ["Running", "status:running"],
  ["Waiting", "status:waiting"],
  ["Failed", "status:failed,stranded"],
  ["Last hour", "since:1h"],
];
const SAVED = "treadle.views";

function savedViews() {
  try {
    const found = JSON.parse(localStorage.getItem(SAVED) || "[]");
    return found.filter((it) => Array.isArray(it) && it.every((text) => typeof text === "string"));
  } catch {
    return [];
  }
}

const views = signal(savedViews());
const isOver = (run) => ["completed", "failed", "cancelled"].includes(run.status);

const COLUMNS = [
  { name: "status", title: "Status", width: "116px" },
  { name: "workflow", title: "Workflow", width: "minmax(110px, 0.8fr)" },
  { name: "key", title: "Key or id", width: "minmax(130px, 1fr)" },
  { name: "failure", title: "Failure", width: "minmax(0, 1.6fr)" },
  { name: "records", title: "Records", width: "84px" },
  { name: "began", title: "Created", width: "96px" },
  { name: "lasted", title: "Duration", width: "104px" },
];

// Rows by their ids, newest first. What changes replaces a row; what is new comes on top.
function useRuns(query) {
  const [rows, setRows] = useState([]);
  const [total, setTotal] = useState(null);
  const [next, setNext] = useState(undefined);
  const [error, setError] = useState(null);
  const loading = useRef(false);
  const mine = useRef(0);
  const known = useRef([]);
  const put = (list) => ((known.current = list), setRows(list));

  const merge = (fresh, isTop) => {
    const byId = new Map(known.current.map((run) => [run.id, run]));
    const added = [];
    for (const run of fresh) {
      if (!byId.has(run.id)) added.push(run);
      byId.set(run.id, run);
    }
    const old = known.current.map((run) => byId.get(run.id));
    if (!isTop) return put([...old, ...added]);
    put(added.length ? [...added, ...old].sort((a, b) => (a.id < b.id ? 1 : -1)) : old);
  };

  const counted = () =>
    get("runs/count", { q: query }).then(setTotal, () => {
      // The list says what is wrong with the filter.
    });

  const more = async (after) => {
    if (loading.current) return;
    loading.current = true;
    const turn = mine.current;
    try {
      const page = await get("runs", { q: query, after, limit: PAGE });
      if (turn !== mine.current) return;
      merge(page.runs, false);
      setNext(page.next);
      setError(null);
    } catch (failure) {
      if (turn === mine.current) setError(failure);
    } finally {
      if (turn === mine.current) loading.current = false;
    }
  };

  useEffect(() => {
    mine.current += 1;
    loading.current = false;
    put([]);
    setNext(undefined);
    setError(null);
    setTotal(null);
    more(null);
    counted();
    const again = setInterval(counted, 15_000);
    const stop = follow(
      { q: query },
      {
        runs: ({ runs }) => {
          if (known.current.length || !loading.current) merge(runs, true);
          if (runs.length && runs.some((run) => run.seq <= 3)) counted();
        },
      },
    );
    return () => (clearInterval(again), stop());
  }, [query]);

  const refresh = async (ids) => {
    if (!ids.length) return;
    try {
      const { runs } = await get("runs/rows", { ids: ids.join(",") });
      const there = new Set(runs.map((run) => run.id));
      const gone = new Set(ids.filter((id) => !there.has(id)));
      if (gone.size) put(known.current.filter((run) => !gone.has(run.id)));
      merge(runs, true);
    } catch {
      // The next turn asks again; the live light says that the server does not answer.
    }
  };
  return { rows, total, next, error, more, refresh };
}

export function Runs() {
  const query = route.value.query.q || "";
  const { rows, total, next, error, more, refresh } = useRuns(query);
  const [chosen, setChosen] = useState(new Set());
  const [focus, setFocus] = useState(null);
  const [, tick] = useState(0);
  const seen = useRef([0, 0]);
  const canAct = ["cancel", "retry", "delete", "pause", "resume"].some(may);
  useEffect(() => {
    document.title = "Runs · treadle";
    const timer = setInterval(() => {
      tick((n) => n + 1);
      // Rows that are further down than the live ones.
      const [first, last] = seen.current;
      const ids = rows.slice(Math.max(first, PAGE), last).filter((run) => !isOver(run));
      refresh(ids.map((run) => run.id));
    }, 2000);
    return () => clearInterval(timer);
  }, [rows]);
  useEffect(() => setChosen(new Set()), [query]);

  const onSeen = (first, last) => {
    seen.current = [first, last];
    if (next && last > rows.length - 40) more(next);
  };
  const toggle = (id) => {
    const after = new Set(chosen);
    if (!after.delete(id)) after.add(id);
    setChosen(after);
  };
  const columns = canAct ? [{ name: "choose", title: html`<span class="unseen">Chosen</span>`, width: "34px" }, ...COLUMNS] : COLUMNS;
  const row = (at) => {
    const run = rows[at];
    if (!run) return null;
    const box = html`<input
      type="checkbox" checked=${chosen.has(run.id)} aria-label=${`choose run ${run.key || run.id}`} onChange=${() => toggle(run.id)}
    />`;
    const name = run.key === null ? html`<code class="faint">${short(run.id)}</code>` : visible(run.key);
    const lasted = isOver(run) ? run.lasted : now() - run.created;
    const cells = [
      html`<${Status} of=${run.status} damaged=${run.is_damaged} />`,
      html`<span title=${run.workflow}>${visible(run.workflow)}</span>`,
      html`<a href=${to("run", [run.id])} tabindex="-1" title=${run.key === null ? run.id : `${run.key}\n${run.id}`}>${name}</a>`,
      html`<span class="failure" title=${run.failure || ""}>${visible(run.failure || "")}</span>`,
      count(run.seq),
      html`<time title=${moment(run.created)}>${ago(run.created, now())}</time>`,
      lasts(lasted),
    ];
    return {
      key: run.id,
      isSelected: chosen.has(run.id),
      label: `${run.status}, ${run.workflow}, ${run.key || run.id}`,
      className: isOver(run) ? "" : "open",
      onOpen: () => go("run", [run.id]),
      cells: canAct ? [box, ...cells] : cells,
    };
  };
  const focused = focus === null ? null : rows.findIndex((run) => run.id === focus);
  const all = total?.count ?? null;
  const text =
    all === null ? (rows.length ? `${count(rows.length)}${next ? "+" : ""}` : "") : `${count(all)}${total.is_capped ? "+" : ""}`;
  return html`<main class="page-runs">
    <h1 class="unseen">Runs</h1>
    <${Filter} query=${query} error=${error?.status === 400 ? error : null} />
    <div class="bar">
      <nav class="views" aria-label="views">
        ${VIEWS.map(
          ([name, q]) => html`<a key=${name} href=${to("runs", [], { q })} aria-current=${q === query ? "true" : undefined}>${name}</a>`,
        )}
        ${views.value.map(
          ([name, q]) => html`<span class="view" key=${`saved ${name}`}>
            <a href=${to("runs", [], { q })} aria-current=${q === query ? "true" : undefined}>${visible(name)}</a>
            <button type="button" class="bare" aria-label=${`forget the view ${name}`} onClick=${() => forget(name)}>×</button>
          </span>`,
        )}
        ${query && ![...VIEWS, ...views.value].some(([, q]) => q === query) &&
        html`<button type="button" class="link" onClick=${() => save(query)}>Save this view</button>`}
      </nav>
      <span class="counted" aria-live="polite">${text} ${text && (text === "1" ? "run" : "runs")}</span>
    </div>
    ${error && error.status !== 400 && html`<${Problem} error=${error} />`}
    ${canAct && chosen.size > 0 && html`<${Bulk} chosen=${rows.filter((run) => chosen.has(run.id))} clear=${() => setChosen(new Set())} />`}
    <${Grid}
      label="Runs" columns=${columns} count=${rows.length} total=${all ?? rows.length} row=${row} onSeen=${onSeen} focusRow=${focused}
      onFocusRow=${(at) => setFocus(rows[at]?.id ?? null)}
      empty=${next === undefined && !error ? "Loading…" : query ? "No run is like that." : "There are no runs yet."}
    />
  </main>`;
}

function Filter({ query, error }) {
  const [text, setText] = useState(query);
  const field = useRef(null);
  useEffect(() => setText(query), [query]);
  const sent = (event) => {
    event.preventDefault();
    change({ q: text.trim() });
  };
  return html`<form class="filter" role="search" onSubmit=${sent}>
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><circle cx="7" cy="7" r="4.2" /><path d="M10.2 10.2L14 14" /></svg>
    <input
      id="filter" type="search" ref=${field} value=${text} autocomplete="off" spellcheck="false"
      placeholder="Filter:  workflow:  status:  key:  error:  since:2h  longer:30s"
      aria-label="Filter of runs" aria-invalid=${error ? "true" : "false"} aria-describedby=${error ? "filter-error" : undefined}
      onInput=${(event) => setText(event.target.value)}
    />
    ${!text && html`<kbd aria-hidden="true">/</kbd>`}
    ${error && html`<span id="filter-error" class="filter-error" role="alert">${visible(error.message)}</span>`}
  </form>`;
}

function save(query) {
  const name = query.replace(/\b[a-z]+:/g, "").slice(0, 24) || query;
  views.value = [...views.value, [name, query]];
  localStorage.setItem(SAVED, JSON.stringify(views.value));
}

function forget(name) {
  views.value = views.value.filter(([other]) => other !== name);
  localStorage.setItem(SAVED, JSON.stringify(views.value));
}

function Bulk({ chosen, clear }) {
  const fits = {
    cancel: (run) => !isOver(run),
    pause: (run) => ["running", "waiting"].includes(run.status),
    resume: (run) => run.status === "paused",
    retry: (run) => ["failed", "cancelled", "stranded"].includes(run.status),
    delete: isOver,
  };
  const label = (action) => action[0].toUpperCase() + action.slice(1);
  return html`<div class="bulk" role="toolbar" aria-label="actions on the chosen runs">
    <span>${count(chosen.length)} chosen</span>
    ${Object.keys(fits)
      .filter(may)
      .map((action) => {
        const runs = chosen.filter(fits[action]).map((run) => run.id);
        return (
          runs.length > 0 &&
          html`<button type="button" key=${action} class=${action === "delete" ? "danger" : ""} onClick=${() => confirmAction(action, runs, clear)}>
            ${label(action)} ${runs.length < chosen.length ? runs.length : ""}
          </button>`
        );
      })}
    <button type="button" class="link" onClick=${clear}>Choose none</button>
  </div>`;
}
