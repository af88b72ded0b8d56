// A table of any number of rows, of which those that are seen are there, and a few around them.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./dom.js";

const AROUND = 6;
const MOST = 56;
// Browsers make elements of up to about 33 million pixels: what is beyond that is not reached by the bar.
const TALLEST = 30_000_000;

// `row(i)` gives {key, cells, label, isSelected, onOpen} or nothing for what is not loaded. `columns` are {name, title, width}.
export function Grid({ label, columns, count, rowHeight = 34, row, onSeen, onFocusRow, focusRow, reveal, empty, total }) {
  const box = useRef(null);
  const head = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  // The row that takes the focus when it is drawn. Until then keys go on from it.
  const wanted = useRef(null);
  const focused = useRef(focusRow);
  focused.current = focusRow;

  useLayoutEffect(() => {
    const element = box.current;
    const measure = () => setView({ top: element.scrollTop, height: element.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => (observer.disconnect(), element.removeEventListener("scroll", measure));
  }, []);

  const first = Math.max(0, Math.min(Math.floor(view.top / rowHeight) - AROUND, count - 1));
  const seen = Math.min(Math.ceil(view.height / rowHeight) + 2 * AROUND, MOST);
  const last = Math.min(first + seen, count);
  useEffect(() => onSeen?.(first, last), [first, last, count]);

  // A row that is to be seen is brought into view, if it is not there.
  useLayoutEffect(() => {
    if (reveal === null || reveal === undefined || reveal < 0 || reveal >= count) return;
    const element = box.current;
    const top = reveal * rowHeight;
    if (top < element.scrollTop || top + 2 * rowHeight > element.scrollTop + element.clientHeight) {
      element.scrollTop = Math.max(top - element.clientHeight / 2, 0);
    }
  }, [reveal, count > 0]);

  // The row that has the focus stays the same while others come and go.
  useLayoutEffect(() => {
    if (wanted.current === null) return;
    const element = box.current.querySelector(`[data-at="${wanted.current}"]`);
    if (element) {
      element.focus({ preventScroll: true });
      wanted.current = null;
    }
  });

  const move = (at) => {
    if (!count) return;
    const to = Math.max(0, Math.min(at, count - 1));
    const element = box.current;
    const top = to * rowHeight;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + rowHeight > element.scrollTop + element.clientHeight) {
      element.scrollTop = top + rowHeight - element.clientHeight;
    }
    wanted.current = to;
    onFocusRow?.(to);
    setView((before) => ({ ...before, top: element.scrollTop }));
  };

  const pressed = (event) => {
    const at = Number(wanted.current ?? event.target.closest("[data-at]")?.dataset.at ?? focusRow ?? -1);
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,select,textarea")) return;
    const page = Math.max(1, Math.floor(view.height / rowHeight) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -count, End: count };
    if (event.key in steps) {
      event.preventDefault();
      move(at + steps[event.key]);
    } else if (event.key === "Enter" && at >= 0 && event.target === event.target.closest("[data-at]")) {
      event.preventDefault();
      row(at)?.onOpen?.(event);
    }
  };

  // As soon as rows are there, so that no key is lost.
  useLayoutEffect(() => {
    const stepped = (event) => move((wanted.current ?? focused.current ?? -1) + event.detail);
    const opened = () => {
      const at = wanted.current ?? focused.current ?? -1;
      if (at >= 0) row(at)?.onOpen?.();
    };
    const element = box.current;
    element.addEventListener("row-step", stepped);
    element.addEventListener("row-open", opened);
    return () => (element.removeEventListener("row-step", stepped), element.removeEventListener("row-open", opened));
  });

  const template = columns.map((column) => column.width || "1fr").join(" ");
  const rows = [];
  for (let at = first; at < last; at += 1) rows.push([at, row(at)]);
  const tabbed = focusRow >= first && focusRow < last ? focusRow : first;
  return html`
    <div class="grid-box">
      <div
        class="grid" role="grid" aria-label=${label} aria-rowcount=${(total ?? count) + 1} ref=${box} onKeyDown=${pressed}
        tabindex=${count ? undefined : 0}
      >
        <div class="grid-row grid-head" role="row" aria-rowindex="1" ref=${head} style=${{ gridTemplateColumns: template }}>
          ${columns.map((c) => html`<span role="columnheader" class=${`c-${c.name}`} key=${c.name}>${c.title}</span>`)}
        </div>
        <div class="grid-all" role="rowgroup" style=${{ height: `${Math.min(count * rowHeight, TALLEST)}px` }}>
          ${rows.map(
            ([at, it]) => html`
              <div
                key=${it?.key ?? `at${at}`} data-at=${at} role="row" aria-rowindex=${at + 2} tabindex=${at === tabbed ? 0 : -1}
                aria-selected=${it?.isSelected ? "true" : "false"} aria-label=${it?.label}
                class=${`grid-row ${it?.className || ""} ${at % 2 ? "odd" : ""}`}
                style=${{ gridTemplateColumns: template, top: `${at * rowHeight}px`, height: `${rowHeight}px` }}
                onFocus=${() => onFocusRow?.(at)}
                onClick=${(event) => !event.target.closest("button,a,input") && it?.onOpen?.(event)}
              >
                ${it
                  ? it.cells.map(
                      (cell, i) =>
                        html`<span role="gridcell" class=${`c-${columns[i].name}`} key=${columns[i].name}>${cell}</span>`,
                    )
                  : html`<span role="gridcell" class="faint" style=${{ gridColumn: "1 / -1" }}>…</span>`}
              </div>
            `,
          )}
        </div>
        ${!count && html`<div class="grid-empty">${empty}</div>`}
      </div>
    </div>
  `;
}

// Rows that are asked for page by page, when they are seen. `ask(page)` gives the rows of a page.
export function usePages(size, ask, needs) {
  const pages = useRef(new Map());
  const [, redraw] = useState(0);
  const token = useRef(0);
  const before = useRef(null);
  const [error, setError] = useState(null);
  // Before the rows are drawn: what they ask for belongs to what is shown now.
  if (!before.current || needs.some((it, i) => it !== before.current[i])) {
    before.current = needs;
    token.current += 1;
    pages.current = new Map();
  }
  const load = (first, last) => {
    for (let page = Math.floor(first / size); page <= Math.floor(Math.max(last - 1, first) / size); page += 1) {
      if (pages.current.has(page)) continue;
      pages.current.set(page, null);
      read(page);
    }
  };
  const read = (page) => {
    const mine = token.current;
    ask(page).then(
      (rows) => {
        if (mine !== token.current) return;
        pages.current.set(page, rows);
        setError(null);
        redraw((n) => n + 1);
      },
      (failure) => {
        if (mine !== token.current) return;
        pages.current.delete(page);
        setError(failure);
      },
    );
  };
  const forget = (from) => {
    // What is shown stays until the rows are there that take its place.
    for (const page of [...pages.current.keys()]) if (page >= Math.floor(from / size)) read(page);
  };
  const at = (i) => pages.current.get(Math.floor(i / size))?.[i % size];
  return { at, load, forget, error };
}
