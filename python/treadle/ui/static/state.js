// The state and what is pending behind a record, or what differs from another one.
import { html, useEffect, useState } from "./dom.js";
import { get } from "./api.js";
import { className, count, moment, plural, visible } from "./format.js";
import { Empty, EventOf, Problem, Value } from "./parts.js";
import { change, route } from "./route.js";

const LARGEST = 8 * 1024 * 1024;

export function State({ id, run, at, setAt, pinned, setPinned }) {
  const mode = route.value.query.diff || "";
  const base = mode === "pinned" ? pinned : mode === "previous" ? Math.max((at ?? run.seq) - 1, run.first ?? 0) : null;
  const [shown, setShown] = useState(null);
  const [error, setError] = useState(null);
  const [most, setMost] = useState(undefined);
  useEffect(() => {
    const asked = new AbortController();
    const path = `run/${encodeURIComponent(id)}`;
    const later = setTimeout(async () => {
      try {
        const found =
          base === null ? await get(`${path}/state`, { at, most }, asked.signal) : await get(`${path}/diff`, { a: base, b: at ?? run.seq, most }, asked.signal);
        setShown({ found, isDiff: base !== null });
        setError(null);
      } catch (failure) {
        if (failure.name !== "AbortError") setError(failure);
      }
    }, 30);
    return () => (clearTimeout(later), asked.abort());
  }, [id, at, base, most, at === null ? run.seq : 0, at === null ? run.status : 0]);
  const choose = (diff) => change({ diff });
  const all = () => setMost(LARGEST);
  return html`<div class="state" tabindex="0" role="region" aria-label="state">
    <div class="bar">
      <div class="segments" role="group" aria-label="what is shown">
        <button type="button" aria-pressed=${mode === ""} onClick=${() => choose(null)}>All</button>
        <button type="button" aria-pressed=${mode === "previous"} onClick=${() => choose("previous")}>Changed by this record</button>
        <button type="button" aria-pressed=${mode === "pinned"} disabled=${pinned === null} onClick=${() => choose("pinned")}>
          ${pinned === null ? "Since the pinned record" : `Since record ${count(pinned)}`}
        </button>
      </div>
      <button type="button" class="link" onClick=${() => setPinned(at ?? run.seq)}>Pin record ${count(at ?? run.seq)}</button>
    </div>
    <${Problem} error=${error} />
    ${shown && !error && (shown.isDiff ? html`<${Diff} found=${shown.found} onLoad=${all} />` : html`<${All} found=${shown.found} setAt=${setAt} onLoad=${all} isOver=${run.finished !== null && at === null} />`)}
  </div>`;
}

function Section({ title, many, children }) {
  return html`<section class="part"><h2>${title} <span class="faint">${many}</span></h2>${children}</section>`;
}

function All({ found, setAt, onLoad, isOver }) {
  return html`
    ${isOver && html`<p class="note">The run is over. This is how it was just before its end.</p>`}
    <${Section} title="State" many=${plural(found.state.length, "key")}>
      ${found.state.length
        ? html`<table class="keys"><colgroup><col class="w-key" /><col /><col class="w-set" /></colgroup><tbody>
            ${found.state.map(
              (value) => html`<tr key=${value.key}>
                <th scope="row">${visible(value.key)}</th>
                <td><${Value} of=${value} open onLoad=${onLoad} /></td>
                <td class="set-by">${value.record ? html`<button type="button" class="link" onClick=${() => setAt(value.record)} title="The record that set it">record ${count(value.record)}</button>` : ""}</td>
              </tr>`,
            )}
          </tbody></table>`
        : html`<${Empty}>No key is set.</${Empty}>`}
    </${Section}>
    ${found.pending.length > 0 &&
    html`<${Section} title="Pending" many=${plural(found.pending.length, "delivery", "deliveries")}>
      <ul class="list">${found.pending.slice(0, 500).map((it) => html`<li key=${it.delivery}><${Pending} of=${it} /></li>`)}</ul>
      ${found.pending.length > 500 && html`<p class="note">and ${count(found.pending.length - 500)} more</p>`}
    </${Section}>`}
    ${found.waits.length > 0 &&
    html`<${Section} title="Waits" many=${count(found.waits.length)}>
      <ul class="list">${found.waits.map((it, i) => html`<li key=${i}>delivery ${it.delivery} ${it.class ? html`waits for <b>${visible(className(it.class))}</b>` : "sleeps"}${it.due ? ` until ${moment(it.due)}` : ""}</li>`)}</ul>
    </${Section}>`}
    ${found.groups.length > 0 &&
    html`<${Section} title="Collected events" many=${plural(found.groups.length, "group")}>
      <ul class="list">${found.groups.map((it, i) => html`<li key=${i}>step <b>${visible(it.step || "?")}</b>${it.key === null ? "" : ` as “${visible(it.key)}”`}: ${count(it.collected)} of ${count(it.expected)} events</li>`)}</ul>
    </${Section}>`}
    ${[["kept", "Kept events"], ["held", "Deferred events"]].map(
      ([name, title]) =>
        found[name].length > 0 &&
        html`<${Section} title=${title} many=${count(found[name].length)} key=${name}>
          <ul class="list">${found[name].map((it, i) => html`<li key=${i}><${EventOf} event=${it} /></li>`)}</ul>
        </${Section}>`,
    )}
  `;
}

function Pending({ of }) {
  return html`<div class="pending">
    <div><span class="label">delivery ${of.delivery}</span> step <b>${visible(of.step || "?")}</b>, attempt ${of.attempt}${of.due ? `, due ${moment(of.due)}` : ""}</div>
    <${EventOf} event=${of} />
    ${of.failures?.map((text, i) => html`<div class="failure" key=${i}>${visible(text)}</div>`)}
    ${of.memos?.length > 0 && html`<div class="memos">${of.memos.map((memo, i) => html`<div key=${i}><span class="label">memo ${visible(memo.name)}</span> <${Value} of=${memo} /></div>`)}</div>`}
  </div>`;
}

const PARTS = [
  ["pending", "Pending"],
  ["waits", "Waits"],
  ["groups", "Collected events"],
  ["kept", "Kept events"],
  ["held", "Deferred events"],
  ["children", "Children"],
];

const SIGN = { added: "+", gone: "−", other: "~" };

function Diff({ found, onLoad }) {
  const isSame = !found.status && !found.published && !found.state.length && PARTS.every(([name]) => !found[name].length);
  if (isSame) return html`<${Empty}>Nothing differs.</${Empty}>`;
  const kind = (it) => (it.before === null ? "added" : it.after === null ? "gone" : "other");
  return html`
    ${found.status && html`<p><span class="label">Status</span> ${found.status[0]} → ${found.status[1]}</p>`}
    ${found.published && html`<p><span class="label">Published</span> ${count(found.published[0])} → ${plural(found.published[1], "event")}</p>`}
    ${found.state.length > 0 &&
    html`<${Section} title="State" many=${plural(found.state.length, "key")}>
      <table class="keys diff"><colgroup><col class="w-key" /><col /><col /></colgroup><thead><tr><th scope="col">Key</th><th scope="col">Before</th><th scope="col">After</th></tr></thead><tbody>
        ${found.state.map(
          (it) => html`<tr key=${it.key} class=${`d-${kind(it)}`}>
            <th scope="row"><span class="sign" aria-label=${kind(it)}>${SIGN[kind(it)]}</span> ${visible(it.key)}</th>
            <td class="before">${it.before ? html`<${Value} of=${it.before} open onLoad=${onLoad} />` : html`<span class="faint">not there</span>`}</td>
            <td class="after">${it.after ? html`<${Value} of=${it.after} open onLoad=${onLoad} />` : html`<span class="faint">gone</span>`}</td>
          </tr>`,
        )}
      </tbody></table>
    </${Section}>`}
    ${PARTS.map(
      ([name, title]) =>
        found[name].length > 0 &&
        html`<${Section} title=${title} many=${count(found[name].length)} key=${name}>
          <ul class="list diff">${found[name].slice(0, 500).map(
            (it, i) => html`<li key=${i} class=${`d-${kind(it)}`}><span class="sign" aria-label=${kind(it)}>${SIGN[kind(it)]}</span> <${Other} of=${it.after ?? it.before} it=${it} /></li>`,
          )}</ul>
        </${Section}>`,
    )}
  `;
}

function Other({ of, it }) {
  if (typeof of !== "object" || of === null) return html`<span>${it.child ? html`run <code>${visible(it.child)}</code> of delivery ${of}` : `delivery ${of}`}</span>`;
  if (of.fields || of.whole) {
    return html`<span>${of.step ? html`step <b>${visible(of.step)}</b>, attempt ${of.attempt}: ` : ""}<${EventOf} event=${of} /></span>`;
  }
  if (of.expected !== undefined) return html`<span>step <b>${visible(of.step || "?")}</b>: ${of.collected} of ${of.expected} events</span>`;
  return html`<span>delivery ${of.delivery} ${of.class ? `waits for ${visible(className(of.class))}` : "sleeps"}${of.due ? ` until ${moment(of.due)}` : ""}</span>`;
}
