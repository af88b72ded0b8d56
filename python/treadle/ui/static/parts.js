// Small parts that several pages show.
import { html, useState } from "./dom.js";
import { className, plural, size, visible } from "./format.js";
import { tree } from "./json.js";

// Every status has a shape of its own, so that it is told without its colour.
const SHAPES = {
  running: html`<circle cx="8" cy="8" r="5.5" class="thin" /><path d="M8 2.5a5.5 5.5 0 0 1 5.5 5.5" />`,
  waiting: html`<circle cx="8" cy="8" r="5.5" /><path d="M8 5v3.2l2 1.3" />`,
  paused: html`<path d="M5.7 4v8M10.3 4v8" />`,
  completed: html`<path d="M3.2 8.6l3 3 6.6-7" />`,
  finished: html`<path d="M3.2 8.6l3 3 6.6-7" />`,
  failed: html`<path d="M4 4l8 8M12 4l-8 8" />`,
  cancelled: html`<circle cx="8" cy="8" r="5.5" /><path d="M4.4 11.6l7.2-7.2" />`,
  stranded: html`<path d="M8 2.6l6 10.6H2z" /><path d="M8 6.6v3.2M8 11.6v.1" />`,
  copying: html`<path d="M2.5 8h10M9 4.5L12.5 8 9 11.5" />`,
  queued: html`<circle cx="8" cy="8" r="5.5" stroke-dasharray="2 2" />`,
};

export function Status({ of, damaged, quiet }) {
  return html`<span class=${`status s-${of}`}>
    <svg viewBox="0 0 16 16" aria-hidden="true">${SHAPES[of] || SHAPES.queued}</svg>
    <span class=${quiet ? "unseen" : ""}>${of}${damaged ? ", damaged" : ""}</span>
  </span>`;
}

const ICONS = {
  previous: "M10 3L5 8l5 5",
  next: "M6 3l5 5-5 5",
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  more: "M3.5 8h.1M8 8h.1M12.5 8h.1",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

export function Copied({ text, shown, title }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 1200);
    } catch {
      // A browser may forbid it; the text is there to be selected.
    }
  };
  return html`<span class="copied"><code title=${title}>${shown}</code>
    <button type="button" class="bare" onClick=${copy} aria-label=${isDone ? "copied" : `copy ${text}`} title="Copy">
      ${isDone ? html`<span class="tiny">copied</span>` : html`<${Icon} name="copy" />`}
    </button></span>`;
}

export function Problem({ error }) {
  if (!error) return null;
  return html`<div class="problem" role="alert">${visible(error.message)}</div>`;
}

// A value of a step: what needs no trust is shown, of the rest what it is.
export function Value({ of, open = false, onLoad }) {
  if (!of) return html`<span class="faint">not there</span>`;
  if (of.is_redacted) return html`<${Tag} of=${of}>redacted</${Tag}>`;
  if (of.json !== undefined) return html`<${Json} text=${of.json} open=${open} />`;
  if (of.binary) {
    return html`<${Tag} of=${of}><code class="hex">${of.binary.hex}${of.binary.size > 256 ? " …" : ""}</code></${Tag}>`;
  }
  const isLong = of.tag !== "opaque" && of.size > 0;
  return html`<${Tag} of=${of}>
    ${of.tag === "opaque" ? "not unpickled" : isLong ? "too long to be shown at once" : ""}
    ${isLong && onLoad && html` <button type="button" class="link" onClick=${onLoad}>show</button>`}
  </${Tag}>`;
}

function Tag({ of, children }) {
  const type = of.type ? className(of.type) : of.tag;
  const key = of.signed_with ? `, signed with key ${of.signed_with}` : of.tag === "opaque" ? ", not signed" : "";
  return html`<span class="tagged"><span class="tag" title=${of.type || of.tag}>${visible(type)}</span>
    <span class="faint">${size(of.size)}${key}</span> ${children}</span>`;
}

export function Json({ text, open }) {
  return html`<span class="json"><${Node} node=${tree(text)} open=${open} depth=${0} /></span>`;
}

const FIRST_ITEMS = 100;
const FIRST_TEXT = 2000;

function Node({ node, open, depth }) {
  const [isOpen, setOpen] = useState(open && depth < 2);
  const [many, setMany] = useState(FIRST_ITEMS);
  if (!node.items) return html`<${Leaf} node=${node} />`;
  const isList = node.kind === "list";
  const [left, right] = isList ? ["[", "]"] : ["{", "}"];
  if (!node.items.length) return html`<span class="j-mark">${left}${right}</span>`;
  const label = isList ? plural(node.items.length, "item") : plural(node.items.length, "key");
  const toggle = html`<button type="button" class="j-toggle" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>
    <span aria-hidden="true" class="j-arrow">${isOpen ? "▾" : "▸"}</span>${left}${isOpen ? "" : html`<span class="faint"> ${label} </span>${right}`}
  </button>`;
  if (!isOpen) return html`${toggle}<span class="j-preview" aria-hidden="true">${preview(node)}</span>`;
  return html`${toggle}<span class="j-items">
      ${node.items.slice(0, many).map(
        (item, i) => html`<span class="j-item" key=${i}>
          ${isList ? html`<span class="j-index">${i}</span>` : html`<span class="j-key">${visible(item[0])}</span>`}
          <${Node} node=${isList ? item : item[1]} open=${open} depth=${depth + 1} />
        </span>`,
      )}
      ${node.items.length > many &&
      html`<button type="button" class="link" onClick=${() => setMany(many + 1000)}>${plural(node.items.length - many, "more", "more")}</button>`}
    </span><span class="j-mark">${right}</span>`;
}

function Leaf({ node }) {
  const [isWhole, setWhole] = useState(false);
  const text = visible(node.text);
  const shown = isWhole || text.length <= FIRST_TEXT ? text : text.slice(0, FIRST_TEXT);
  return html`<span class=${`j-${node.kind}`}>${node.kind === "string" ? `"${shown}"` : shown}</span
    >${shown.length < text.length &&
    html` <button type="button" class="link" onClick=${() => setWhole(true)}>all of ${size(node.text.length)}</button>`}`;
}

export function preview(node, most = 80) {
  const leaf = (it) =>
    it.items ? (it.kind === "list" ? "[…]" : "{…}") : it.kind === "string" ? `"${visible(it.text.slice(0, 40))}"` : it.text;
  const parts = [];
  let length = 0;
  for (const item of node.items.slice(0, 12)) {
    const part = node.kind === "list" ? leaf(item) : `${visible(item[0])}: ${leaf(item[1])}`;
    length += part.length + 2;
    if (length > most) break;
    parts.push(part);
  }
  return parts.join(", ") + (parts.length < node.items.length ? ", …" : "");
}

// A value in one line, as a text.
export function brief(value) {
  if (!value) return "";
  if (value.is_redacted) return "redacted";
  if (value.json !== undefined) {
    const node = tree(value.json);
    if (!node.items) return node.kind === "string" ? `"${visible(node.text.slice(0, 200))}"` : node.text;
    return node.kind === "list" ? `[${preview(node)}]` : `{${preview(node)}}`;
  }
  return `${value.type ? className(value.type) : value.tag}, ${size(value.size)}`;
}

export function EventOf({ event, name, open }) {
  const label = className(name || event.class || event.event);
  if (event.whole) return html`<span class="event"><b>${visible(label)}</b> <${Value} of=${event.whole} /></span>`;
  const fields = Object.entries(event.fields || {});
  return html`<span class="event"><b title=${event.class || event.event}>${visible(label)}</b>
    ${fields.length > 0 &&
    html`<span class="fields">${fields.map(
      ([key, value]) => html`<span class="field" key=${key}><span class="j-key">${visible(key)}</span> <${Value} of=${value} open=${open} /></span>`,
    )}</span>`}</span>`;
}

export function Empty({ children }) {
  return html`<div class="empty">${children}</div>`;
}
