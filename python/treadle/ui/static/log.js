// Every record of a run, read page by page when it is seen.
import { html, useEffect, useState } from "./dom.js";
import { get } from "./api.js";
import { className, count, lasts, moment, short, visible } from "./format.js";
import { Grid, usePages } from "./grid.js";
import { EventOf, Icon, Problem, Value, brief } from "./parts.js";

const PAGE = 100;
const COLUMNS = [
  { name: "record", title: "Record", width: "84px" },
  { name: "what", title: "What", width: "112px" },
  { name: "delivery", title: "Delivery", width: "76px" },
  { name: "facts", title: "Contents", width: "minmax(0, 1fr)" },
  { name: "when", title: "When", width: "92px" },
];

export function Log({ id, run, at, setAt }) {
  const [first, setFirst] = useState(null);
  const [pending, setPending] = useState([]);
  const [focus, setFocus] = useState(null);
  const [chosen, setChosen] = useState(null);
  const path = `run/${encodeURIComponent(id)}/records`;
  // What was pending when the history begins comes before its records.
  useEffect(() => {
    get(path, { after: 0, limit: PAGE }).then(
      ({ records }) => {
        const start = run.first ?? 0;
        setPending(records.filter((record) => record.seq <= start));
        setFirst(start);
      },
      () => setFirst(0),
    );
  }, [id]);
  const pages = usePages(
    PAGE,
    async (page) => {
      const after = first + page * PAGE;
      const { records } = await get(path, { after, limit: PAGE + pending.length });
      const rows = [];
      for (const record of records) if (record.seq > after && record.seq <= after + PAGE) rows[record.seq - after - 1] = record;
      return rows;
    },
    [id, first],
  );
  const total = first === null ? 0 : pending.length + Math.max(run.seq - first, 0);
  const known = useState({ seq: run.seq })[0];
  useEffect(() => {
    // The last page has more records now.
    if (first !== null && run.seq > known.seq) pages.forget(known.seq - first);
    known.seq = run.seq;
  }, [run.seq]);
  const recordAt = (n) => (n < pending.length ? pending[n] : pages.at(n - pending.length));
  const shown = at === null || first === null ? null : pending.length + at - first - 1;
  const row = (n) => {
    const record = recordAt(n);
    if (!record) return null;
    const when = record.at ?? record.since;
    return {
      key: `${n}`,
      isSelected: record.seq === at || n === chosen,
      className: `${at !== null && record.seq > at ? "later" : ""} ${record.what === "retried" ? "is-failed" : ""}`,
      label: `record ${record.seq}, ${record.what}`,
      onOpen: () => (setChosen(n), setAt(record.seq)),
      cells: [
        count(record.seq),
        html`<span class="what">${record.what}</span>`,
        record.delivery ?? "",
        html`<span class="line">${factsOf(record)}</span>`,
        when ? html`<time title=${moment(when)}>+${lasts(Math.max(when - run.created, 0)) || "0"}</time>` : "",
      ],
    };
  };
  const open = chosen === null ? null : recordAt(chosen);
  return html`<div class=${`log ${open ? "with-inspector" : ""}`}>
    <${Problem} error=${pages.error} />
    <${Grid}
      label="Log" columns=${COLUMNS} count=${total} row=${row} rowHeight=${30} focusRow=${focus ?? shown} onFocusRow=${setFocus} reveal=${shown}
      onSeen=${(a, b) => first !== null && pages.load(Math.max(a - pending.length, 0), Math.max(b - pending.length, 1))} empty=${first === null ? "Loading…" : "There are no records."}
    />
    ${open && html`<${Inspector} record=${open} close=${() => setChosen(null)} />`}
  </div>`;
}

const LEFT_OUT = new Set(["seq", "what", "delivery", "at", "since", "fields", "whole", "value", "event", "signed_with", "failures"]);

function factsOf(record) {
  const parts = [];
  if (record.step) parts.push(html`<b>${visible(record.step)}</b>`);
  if (record.key !== undefined && record.key !== null) parts.push(html`<span class="j-key">${visible(record.key)}</span>`);
  if (record.memo !== undefined) parts.push(html`<span class="j-key">${visible(record.memo)}</span>`);
  if (record.event) {
    const inside = record.whole ? brief(record.whole) : Object.entries(record.fields || {}).map(([key, value]) => `${visible(key)}: ${brief(value)}`).join(", ");
    parts.push(html`<span>${visible(className(record.event))}(${inside})</span>`);
  }
  if (record.value) parts.push(html`<span>${brief(record.value)}</span>`);
  if (record.failure) parts.push(html`<span class="failure">${visible(record.failure)}</span>`);
  if (record.class && !record.event) parts.push(html`<span>for ${visible(className(record.class))}</span>`);
  if (record.child) parts.push(html`<code>${short(record.child)}</code>`);
  for (const name of ["for", "number", "group", "expected", "wait", "place", "keys", "attempt"]) {
    if (record[name] !== undefined && record[name] !== null && !(name === "attempt" && record[name] === 1)) parts.push(html`<span class="faint">${name} ${record[name]}</span>`);
  }
  if (record.due) parts.push(html`<span class="faint">due ${moment(record.due)}</span>`);
  return parts.map((part, i) => html`<span key=${i}>${part} </span>`);
}

function Inspector({ record, close }) {
  const rest = Object.entries(record).filter(([name, value]) => !LEFT_OUT.has(name) && value !== null && value !== "");
  return html`<aside class="inspector" aria-label="record">
    <header><h2>Record ${count(record.seq)}: ${record.what}</h2>
      <button type="button" class="bare" onClick=${close} aria-label="close"><${Icon} name="close" /></button></header>
    <dl>
      ${record.delivery && html`<dt>Delivery</dt><dd>${record.delivery}</dd>`}
      ${record.at && html`<dt>When</dt><dd>${moment(record.at)}</dd>`}
      ${rest.map(([name, value]) => html`<dt key=${name}>${name.replace(/_/g, " ")}</dt><dd>${name === "due" ? moment(value) : visible(String(value))}</dd>`)}
    </dl>
    ${record.event && html`<${EventOf} event=${record} name=${record.event} open />`}
    ${record.value && html`<div class="block"><${Value} of=${record.value} open /></div>`}
    ${record.signed_with && html`<p class="note">Signed with key ${record.signed_with}.</p>`}
  </aside>`;
}
