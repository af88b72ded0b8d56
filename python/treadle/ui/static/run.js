// One run: what it is, what it does, and one scrubber that sets the record that every tab shows.
import { html, useEffect, useMemo, useRef, useState } from "./dom.js";
import { act, bytes, follow, get, journal, may, now } from "./api.js";
import { decoded } from "./course.js";
import { confirmAction, open } from "./dialog.js";
import { ago, count, lasts, moment, plural, short, visible } from "./format.js";
import { ForkForm, SendForm } from "./forms.js";
import { GraphTab } from "./graph.js";
import { Log } from "./log.js";
import { Copied, Empty, EventOf, Icon, Problem, Status, Value } from "./parts.js";
import { change, go, route, to } from "./route.js";
import { State } from "./state.js";
import { Stream } from "./stream.js";
import { Timeline } from "./timeline.js";

const TABS = [
  ["timeline", "Timeline"],
  ["graph", "Graph"],
  ["state", "State"],
  ["log", "Log"],
  ["stream", "Stream"],
];
const isOver = (run) => ["completed", "failed", "cancelled"].includes(run.status);

export function Run() {
  const [id, tab = "timeline"] = route.value.parts;
  return id ? html`<${One} id=${id} tab=${TABS.some(([name]) => name === tab) ? tab : "timeline"} key=${id} />` : html`<${Empty}>No run is named.</${Empty}>`;
}

function useRun(id) {
  const [run, setRun] = useState(null);
  const [error, setError] = useState(null);
  const [isGone, setGone] = useState(false);
  const [course, setCourse] = useState(null);
  const [courseError, setCourseError] = useState(null);
  const [reasons, setReasons] = useState([]);
  const state = useRef({ seq: -1, isBusy: false, again: false });

  const head = async () => {
    try {
      setRun(await get(`run/${encodeURIComponent(id)}`));
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  };
  // A long course is read again less often than it takes to read it.
  const read = async () => {
    if (state.current.isBusy) return void (state.current.again = true);
    state.current.isBusy = true;
    const began = performance.now();
    try {
      setCourse(decoded(await bytes(`run/${encodeURIComponent(id)}/course`)));
      setCourseError(null);
    } catch (failure) {
      setCourseError(failure);
    }
    try {
      setReasons((await get(`run/${encodeURIComponent(id)}/why`)).reasons);
    } catch {
      setReasons([]);
    }
    await new Promise((done) => setTimeout(done, Math.min((performance.now() - began) * 4, 10_000)));
    state.current.isBusy = false;
    if (state.current.again) {
      state.current.again = false;
      read();
    }
  };
  useEffect(() => {
    head();
    read();
    let isFirst = true;
    return follow(
      { run: id },
      {
        run: ({ run: row }) => {
          setRun((before) => before && { ...before, ...row });
          if (!isFirst) {
            if (isOver(row) || row.status === "stranded") head();
            read();
          }
          isFirst = false;
        },
        gone: () => setGone(true),
      },
    );
  }, [id]);
  return { run, error, isGone, course, courseError, reasons, reload: () => (head(), read()) };
}

function One({ id, tab }) {
  const { run, error, isGone, course, courseError, reasons, reload } = useRun(id);
  const [, tick] = useState(0);
  const [pinned, setPinned] = useState(null);
  const at = /^\d+$/.test(route.value.query.at || "") ? Number(route.value.query.at) : null;
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    if (run) document.title = `${run.key || run.workflow} · treadle`;
  }, [run?.key, run?.workflow]);
  const first = run?.first ?? 0;
  const last = run?.seq ?? 0;
  const setAt = (record) => change({ at: record === null || record === undefined ? null : Math.max(first, Math.min(record, last)) });
  useEffect(() => {
    const step = (event) => {
      const { detail } = event;
      const here = at ?? last;
      if (detail === "previous") setAt(here - 1);
      if (detail === "next") setAt(here >= last ? null : here + 1);
      const failed = course?.failed || [];
      const ends = run?.status === "failed" ? [...failed, last] : failed;
      if (detail === "failure-before") setAt(ends.filter((n) => n < here).pop() ?? at);
      if (detail === "failure-after") setAt(ends.find((n) => n > (at ?? -1)) ?? at);
      if (detail === "diff") go("run", [id, "state"], { at, diff: route.value.query.diff === "previous" ? null : "previous" });
      if (detail === "fork" && may("fork")) forkDialog(run, at);
    };
    addEventListener("record-step", step);
    return () => removeEventListener("record-step", step);
  });
  if (isGone) return html`<${Empty}>This run was deleted. <a href=${to("runs")}>All runs</a></${Empty}>`;
  if (error && !run) return html`<main><${Problem} error=${error} /></main>`;
  if (!run) return html`<main class="loading" aria-busy="true">Loading…</main>`;
  const query = { at };
  return html`<main class="page-run">
    <${Head} run=${run} reload=${reload} at=${at} reasons=${reasons} />
    <div class="run-bar">
      <nav class="tabs" role="tablist" aria-label="what is shown of the run">
        ${TABS.map(
          ([name, title]) => html`<a
            key=${name} role="tab" id=${`tab-${name}`} aria-selected=${name === tab} aria-controls="tab-panel" href=${to("run", [id, name], query)}
          >${title}${name === "stream" && run.published > 0 ? html` <span class="faint">${count(run.published)}</span>` : ""}</a>`,
        )}
      </nav>
      <${Scrubber} first=${first} last=${last} at=${at} setAt=${setAt} failed=${course?.failed || []} />
    </div>
    <section id="tab-panel" role="tabpanel" aria-labelledby=${`tab-${tab}`}>
      ${tab === "timeline" && (course ? html`<${Timeline} course=${course} run=${run} at=${at} setAt=${setAt} />` : html`<${Problem} error=${courseError} />`)}
      ${tab === "graph" && (course ? html`<${GraphTab} course=${course} run=${run} at=${at} />` : html`<${Problem} error=${courseError} />`)}
      ${tab === "state" && html`<${State} id=${id} run=${run} at=${at} setAt=${setAt} pinned=${pinned} setPinned=${setPinned} />`}
      ${tab === "log" && html`<${Log} id=${id} run=${run} at=${at} setAt=${setAt} />`}
      ${tab === "stream" && html`<${Stream} id=${id} run=${run} />`}
    </section>
  </main>`;
}

function Head({ run, reload, at, reasons }) {
  const lasted = isOver(run) ? run.lasted : now() - run.created;
  const facts = [
    ["Run", html`<${Copied} text=${run.id} shown=${short(run.id)} title=${run.id} />`],
    ["Created", html`<time title=${moment(run.created)}>${ago(run.created, now())}</time>`],
    [isOver(run) ? "Took" : "For", lasts(lasted)],
    ["Records", count(run.seq)],
  ];
  if (run.owner) facts.push(["Process", html`<code title=${`${run.owner}, claimed ${plural(run.epoch, "time")}`}>${short(run.owner)}</code>`]);
  if (run.due && !isOver(run)) facts.push(["Due", html`<time title=${moment(run.due)}>${ago(run.due, now())}</time>`]);
  if (run.parent) facts.push(["Parent", html`<a href=${to("run", [run.parent])}><code>${short(run.parent)}</code></a>`]);
  if (run.root && run.root !== run.parent && run.root !== run.id) facts.push(["Root", html`<a href=${to("run", [run.root])}><code>${short(run.root)}</code></a>`]);
  if (run.recoveries) facts.push(["Processes lost", count(run.recoveries)]);
  if (run.inbox) facts.push(["Messages waiting", count(run.inbox)]);
  return html`<header class="run-head">
    <div class="run-title">
      <h1>${visible(run.key ?? run.workflow)}</h1>
      <${Status} of=${run.status} damaged=${run.is_damaged} />
      ${run.key !== null && html`<a class="faint" href=${to("runs", [], { q: `workflow:${quoted(run.workflow)}` })}>${visible(run.workflow)}</a>`}
      <span class="grow"></span>
      <${Actions} run=${run} reload=${reload} at=${at} />
    </div>
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    ${run.failure && html`<${Failure} run=${run} />`}
    ${run.outcome && html`<div class="outcome"><span class="label">Result</span> ${run.outcome.whole ? html`<${Value} of=${run.outcome.whole} />` : html`<${EventOf} event=${run.outcome} />`}</div>`}
    ${!isOver(run) && run.status !== "stranded" && reasons.length > 0 &&
    html`<details class="why" open=${run.status === "waiting"}>
      <summary>${run.status === "waiting" ? "Why it waits" : "What it does now"}</summary>
      <ul>${reasons.map((reason, i) => html`<li key=${i}>${visible(reason.text)}</li>`)}</ul>
    </details>`}
    ${run.letters?.length > 0 &&
    html`<details class="why"><summary>${plural(run.letters.length, "dead letter")}</summary>
      <ul>${run.letters.map((letter) => html`<li key=${letter.number}>${visible(letter.why)}</li>`)}</ul>
    </details>`}
    ${run.verified === false && html`<p class="note">Not verified: there is no secret to check the signatures with.</p>`}
    ${run.first > 0 && html`<p class="note">The first ${plural(run.first, "record")} are folded into a checkpoint.</p>`}
  </header>`;
}

const quoted = (text) => (/[\s"]/.test(text) ? `"${text.replace(/["\\]/g, "\\$&")}"` : text);

function Failure({ run }) {
  const trace = run.trace || {};
  const rest = Object.entries(trace).filter(([name, value]) => !["class", "text"].includes(name) && value && value.length !== 0);
  const more = rest.length > 0 || String(trace.text || "").includes("\n");
  return html`<div class="failure-box">
    <span class="failure-line">${visible(run.failure)}</span>
    ${more &&
    html`<details><summary>Details</summary>
      <pre class="trace">${visible(trace.text || "")}</pre>
      ${rest.map(([name, value]) => html`<div key=${name}><span class="label">${visible(name)}</span> <pre class="trace">${visible(typeof value === "string" ? value : JSON.stringify(value, null, 2))}</pre></div>`)}
    </details>`}
  </div>`;
}

function forkDialog(run, at) {
  open({ title: "Fork the run", wide: true, body: html`<${ForkForm} run=${run} at=${at} />` });
}

function Actions({ run, reload, at }) {
  const after = (action) => () => (action === "delete" ? go("runs") : reload());
  const button = (action, title, isDanger) =>
    may(action) &&
    html`<button type="button" class=${isDanger ? "danger" : ""} onClick=${() => confirmAction(action, [run.id], after(action))}>${title}</button>`;
  const canRetry = ["failed", "cancelled", "stranded"].includes(run.status);
  const save = async () => {
    const blob = new Blob([await bytes(`run/${encodeURIComponent(run.id)}/export`)]);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${run.id}.treadle`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  return html`<div class="actions">
    ${!isOver(run) && may("send") && html`<button type="button" onClick=${() => open({ title: "Send an event", body: html`<${SendForm} run=${run} />` })}>Send</button>`}
    ${["running", "waiting"].includes(run.status) && button("pause", "Pause")}
    ${run.status === "paused" && button("resume", "Resume")}
    ${!isOver(run) && button("cancel", "Cancel", true)}
    ${canRetry && button("retry", "Retry")}
    ${may("fork") && html`<button type="button" onClick=${() => forkDialog(run, at)}>Fork</button>`}
    ${journal.value?.may_export && !journal.value.is_archive && html`<button type="button" class="quiet" onClick=${save}>Export</button>`}
    ${isOver(run) && button("delete", "Delete", true)}
  </div>`;
}

function Scrubber({ first, last, at, setAt, failed }) {
  const here = at ?? last;
  const marks = useMemo(() => failed.slice(0, 200), [failed]);
  const place = (record) => (last > first ? ((record - first) / (last - first)) * 100 : 100);
  const typed = (event) => {
    const text = event.target.value.replace(/\D/g, "");
    setAt(text === "" ? null : Number(text));
  };
  return html`<div class="scrubber" role="group" aria-label="the record that is shown">
    <button type="button" class="small" onClick=${() => setAt(here - 1)} disabled=${here <= first} aria-label="previous record" title="Previous record  ["><${Icon} name="previous" /></button>
    <span class="slider">
      <input
        type="range" min=${first} max=${last} step="1" value=${here} aria-label="record" aria-valuetext=${at === null ? `record ${here}, the last one` : `record ${here} of ${last}`}
        onInput=${(event) => setAt(Number(event.target.value) >= last ? null : Number(event.target.value))}
      />
      <span class="marks" aria-hidden="true">${marks.map((record) => html`<i key=${record} style=${{ left: `${place(record)}%` }}></i>`)}</span>
    </span>
    <button type="button" class="small" onClick=${() => setAt(here + 1 >= last ? null : here + 1)} disabled=${at === null} aria-label="next record" title="Next record  ]"><${Icon} name="next" /></button>
    <label class="record">record <input inputmode="numeric" value=${here} size=${Math.max(String(last).length, 2)} aria-label="number of the record" onChange=${typed} /> <span class="faint">of ${count(last)}</span></label>
    <button type="button" class=${`small now ${at === null ? "is-now" : ""}`} aria-pressed=${at === null} onClick=${() => setAt(null)}>Now</button>
  </div>`;
}
