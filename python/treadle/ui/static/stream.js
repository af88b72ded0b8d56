// What a run has published.
import { html, useEffect, useState } from "./dom.js";
import { get } from "./api.js";
import { className, count, visible } from "./format.js";
import { Grid, usePages } from "./grid.js";
import { EventOf, Icon, Problem, brief } from "./parts.js";

const PAGE = 100;
const COLUMNS = [
  { name: "record", title: "Number", width: "84px" },
  { name: "what", title: "Event", width: "minmax(100px, 0.4fr)" },
  { name: "facts", title: "Contents", width: "minmax(0, 1fr)" },
];

export function Stream({ id, run }) {
  const [focus, setFocus] = useState(null);
  const [chosen, setChosen] = useState(null);
  const pages = usePages(
    PAGE,
    async (page) => {
      const { events, missed } = await get(`run/${encodeURIComponent(id)}/stream`, { after: page * PAGE, limit: PAGE });
      const rows = [];
      for (let i = 0; i < Math.min(missed, PAGE); i += 1) rows[i] = { number: page * PAGE + i + 1, isMissed: true };
      for (const event of events) {
        const place = event.number - page * PAGE - 1;
        if (place < PAGE) rows[place] = event;
      }
      return rows;
    },
    [id],
  );
  const known = useState({ published: run.published })[0];
  useEffect(() => {
    if (run.published > known.published) pages.forget(known.published);
    known.published = run.published;
  }, [run.published]);
  const row = (n) => {
    const event = pages.at(n);
    if (!event) return null;
    if (event.isMissed) return { key: n, cells: [count(n + 1), html`<span class="faint">no longer kept</span>`, ""] };
    const inside = event.whole ? brief(event.whole) : Object.entries(event.fields || {}).map(([key, value]) => `${visible(key)}: ${brief(value)}`).join(", ");
    return {
      key: n,
      isSelected: n === chosen,
      label: `event ${n + 1}, ${className(event.class)}`,
      onOpen: () => setChosen(n),
      cells: [count(n + 1), html`<b title=${event.class}>${visible(className(event.class))}</b>`, html`<span class="line">${inside}</span>`],
    };
  };
  const open = chosen === null ? null : pages.at(chosen);
  return html`<div class=${`log ${open ? "with-inspector" : ""}`}>
    <${Problem} error=${pages.error} />
    <${Grid}
      label="Stream" columns=${COLUMNS} count=${run.published} row=${row} rowHeight=${30} focusRow=${focus} onFocusRow=${setFocus}
      onSeen=${(a, b) => run.published && pages.load(a, b)} empty="The run has published nothing."
    />
    ${open &&
    html`<aside class="inspector" aria-label="event">
      <header><h2>Event ${count(chosen + 1)}</h2><button type="button" class="bare" onClick=${() => setChosen(null)} aria-label="close"><${Icon} name="close" /></button></header>
      <${EventOf} event=${open} open />
    </aside>`}
  </div>`;
}
