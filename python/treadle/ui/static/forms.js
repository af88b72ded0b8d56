// Forks and events for runs: what is given is JSON, or else a text as it stands.
import { html, useEffect, useState } from "./dom.js";
import { act, get } from "./api.js";
import { close } from "./dialog.js";
import { className, count, visible } from "./format.js";
import { Problem, brief } from "./parts.js";
import { go } from "./route.js";

// The text of a number is kept, also of one that a browser would round.
function given(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value === "number" && String(value) !== text.trim() && !/[.eE]/.test(text)) {
      throw new RangeError(`${text.trim()}: this number is too large for a browser; use the command line`);
    }
    return value;
  } catch (error) {
    if (error instanceof RangeError) throw error;
    return text;
  }
}

export function ForkForm({ run, at }) {
  const [record, setRecord] = useState(at ?? run.seq);
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [keys, setKeys] = useState({});
  const [events, setEvents] = useState({});
  const [isBusy, setBusy] = useState(false);
  // The last record is the end of the run: a fork of it begins just before.
  const place = record >= run.seq ? null : record;
  useEffect(() => {
    setKeys({});
    setEvents({});
    get(`run/${encodeURIComponent(run.id)}/state`, { at: place }).then(
      (state) => (setFound(state), setError(null)),
      (failure) => (setFound(null), setError(failure)),
    );
  }, [place]);
  const sent = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const body = { at: place, state: {}, remove: [], events: {} };
      for (const [key, edit] of Object.entries(keys)) {
        if (edit.isRemoved) body.remove.push(key);
        else body.state[key] = given(edit.text);
      }
      for (const [delivery, fields] of Object.entries(events)) {
        body.events[delivery] = Object.fromEntries(Object.entries(fields).map(([name, text]) => [name, given(text)]));
      }
      const { run: forked } = await act(run.id, "fork", body);
      close();
      go("run", [forked]);
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  const jsonOf = (value) => (value.json === undefined ? null : value.json);
  const editable = (value, text, set, label) =>
    jsonOf(value) === null
      ? html`<span class="faint">${brief(value)}</span>`
      : html`<input value=${text ?? jsonOf(value)} aria-label=${label} spellcheck="false" onInput=${(event) => set(event.target.value)} />`;
  return html`<form class="fork" onSubmit=${sent}>
    <label class="field-row"><span>Behind record</span>
      <input inputmode="numeric" value=${record} onChange=${(event) => setRecord(Math.max(0, Math.min(Number(event.target.value.replace(/\D/g, "")) || 0, run.seq)))} />
      <span class="faint">of ${count(run.seq)}</span></label>
    ${found && html`
      <h3>What runs again</h3>
      ${found.pending.length
        ? html`<div class="edits">${found.pending.slice(0, 50).map(
            (it) => html`<fieldset key=${it.delivery}>
              <legend>${visible(it.step || "?")}, delivery ${it.delivery}: ${visible(className(it.class))}</legend>
              ${Object.entries(it.fields || {}).map(
                ([name, value]) => html`<label class="field-row" key=${name}><span class="j-key">${visible(name)}</span>
                  ${editable(value, events[it.delivery]?.[name], (text) => setEvents({ ...events, [it.delivery]: { ...events[it.delivery], [name]: text } }), name)}</label>`,
              )}
            </fieldset>`,
          )}${found.pending.length > 50 ? html`<p class="note">and ${count(found.pending.length - 50)} more</p>` : ""}</div>`
        : html`<p class="faint">Nothing is pending behind this record.</p>`}
      ${found.state.length > 0 && html`<h3>State</h3>
        <div class="edits">${found.state.map(
          (value) => html`<div class="field-row" key=${value.key}><span class="j-key">${visible(value.key)}</span>
            ${keys[value.key]?.isRemoved
              ? html`<span class="faint grow">removed</span>`
              : editable(value, keys[value.key]?.text, (text) => setKeys({ ...keys, [value.key]: { text } }), value.key)}
            <button type="button" class="link" onClick=${() => {
              const after = { ...keys };
              if (after[value.key]?.isRemoved) delete after[value.key];
              else after[value.key] = { isRemoved: true };
              setKeys(after);
            }}>${keys[value.key]?.isRemoved ? "keep" : "remove"}</button></div>`,
        )}</div>`}
    `}
    <${Problem} error=${error} />
    <p class="note">The new run has the log up to there, and goes on wherever a process has its workflow. This run stays as it is.</p>
    <div class="buttons"><button type="button" onClick=${close}>No</button><button type="submit" class="main" disabled=${isBusy || !found}>Fork</button></div>
  </form>`;
}

export function SendForm({ run, event = "", form = null, after }) {
  const [label, setLabel] = useState(event);
  const [text, setText] = useState("{}");
  const [fields, setFields] = useState({});
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const sent = async (submitted) => {
    submitted.preventDefault();
    setBusy(true);
    try {
      const inside = form
        ? Object.fromEntries(Object.entries(fields).filter(([, it]) => it !== "").map(([name, it]) => [name, given(it)]))
        : given(text);
      if (typeof inside !== "object" || inside === null || Array.isArray(inside)) throw new Error("the fields: an object of JSON expected");
      await act(run.id, "send", { event: label.trim(), fields: inside });
      close();
      after?.();
    } catch (failure) {
      setError(failure);
    }
    setBusy(false);
  };
  return html`<form onSubmit=${sent}>
    ${event
      ? html`<p>${visible(className(event))} to <b>${visible(run.key || run.workflow)}</b></p>`
      : html`<label class="field-row"><span>Class of the event</span><input required value=${label} onInput=${(it) => setLabel(it.target.value)} spellcheck="false" autofocus /></label>`}
    ${form
      ? form.map(
          (field) => html`<label class="field-row" key=${field.name}><span>${visible(field.name)} <span class="faint">${visible(field.type)}${field.is_needed ? "" : ", may be left out"}</span></span>
            <input value=${fields[field.name] || ""} required=${field.is_needed} spellcheck="false" onInput=${(it) => setFields({ ...fields, [field.name]: it.target.value })} /></label>`,
        )
      : html`<label class="field-row tall"><span>Fields, as JSON</span><textarea rows="5" value=${text} spellcheck="false" onInput=${(it) => setText(it.target.value)}></textarea></label>`}
    <${Problem} error=${error} />
    <div class="buttons"><button type="button" onClick=${close}>No</button><button type="submit" class="main" disabled=${isBusy}>Send</button></div>
  </form>`;
}
