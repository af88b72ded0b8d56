// Graphs of steps: boxes in layers, arrows between them. The table beside it says the same.
import { html, useEffect, useMemo, useState } from "./dom.js";
import { get } from "./api.js";
import { AGAIN, CUT_SHORT, ENDED_RUN, FAILED, FINISHED, QUEUED, RUNNING, WAITING } from "./course.js";
import { className, count, plural, visible } from "./format.js";

const WIDE = 168;
const HIGH = 46;
const ACROSS = 34;
const DOWN = 64;

// Every box gets a layer below those that lead to it; arrows that go back up do not count.
export function layout(names, arrows) {
  const next = new Map(names.map((name) => [name, []]));
  for (const [from, to] of arrows) if (from !== to) next.get(from)?.push(to);
  const isBack = new Set();
  const colour = new Map();
  for (const root of names) {
    if (colour.has(root)) continue;
    const stack = [[root, 0]];
    colour.set(root, 1);
    while (stack.length) {
      const top = stack[stack.length - 1];
      const to = next.get(top[0])[top[1]];
      top[1] += 1;
      if (to === undefined) {
        colour.set(top[0], 2);
        stack.pop();
      } else if (colour.get(to) === 1) isBack.add(`${top[0]}\n${to}`);
      else if (!colour.has(to)) {
        colour.set(to, 1);
        stack.push([to, 0]);
      }
    }
  }
  const layer = new Map(names.map((name) => [name, 0]));
  for (let round = 0, moved = true; moved && round <= names.length; round += 1) {
    moved = false;
    for (const [from, to] of arrows) {
      if (from === to || isBack.has(`${from}\n${to}`) || !layer.has(from) || !layer.has(to)) continue;
      if (layer.get(to) < layer.get(from) + 1) {
        layer.set(to, layer.get(from) + 1);
        moved = true;
      }
    }
  }
  const layers = [];
  for (const name of names) (layers[layer.get(name)] ||= []).push(name);
  const filled = layers.filter(Boolean);
  // Boxes stand below what leads to them, as far as there is room.
  const place = new Map();
  filled.forEach((row) => row.forEach((name, i) => place.set(name, i - (row.length - 1) / 2)));
  for (let round = 0; round < 4; round += 1) {
    for (const row of round % 2 ? [...filled].reverse() : filled) {
      const wanted = new Map(
        row.map((name) => {
          const near = arrows.filter(([a, b]) => (round % 2 ? a === name : b === name) && a !== b).map(([a, b]) => place.get(round % 2 ? b : a));
          return [name, near.length ? near.reduce((sum, x) => sum + x, 0) / near.length : place.get(name)];
        }),
      );
      row.sort((a, b) => wanted.get(a) - wanted.get(b));
      row.forEach((name, i) => place.set(name, i - (row.length - 1) / 2));
    }
  }
  const most = Math.max(...filled.map((row) => row.length), 1);
  const width = most * (WIDE + ACROSS) + ACROSS;
  const boxes = new Map();
  filled.forEach((row, y) =>
    row.forEach((name) => boxes.set(name, { x: width / 2 + place.get(name) * (WIDE + ACROSS), y: 16 + y * (HIGH + DOWN), layer: y })),
  );
  return { boxes, width, height: 32 + filled.length * (HIGH + DOWN) - DOWN, isBack };
}

export function Graph({ names, titles, arrows, notes = {}, label }) {
  const laid = useMemo(() => layout(names, arrows), [names.join("\n"), arrows.map((a) => a.join(" ")).join("\n")]);
  const sides = {};
  const seen = {};
  return html`<svg
    class="graph" role="img" aria-label=${label} viewBox=${`0 0 ${laid.width + 70} ${laid.height}`} style=${{ width: `${laid.width + 70}px` }}
  >
    <defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 .8L7 4 0 7.2z" class="arrow-head" /></marker></defs>
    ${arrows.map(([from, to, text, note], n) => {
      const a = laid.boxes.get(from);
      const b = laid.boxes.get(to);
      if (!a || !b) return null;
      const pair = `${from}\n${to}`;
      seen[pair] = (seen[pair] || 0) + 1;
      const isUp = from === to || b.layer <= a.layer;
      let d;
      let tx;
      let ty;
      if (isUp) {
        const side = (sides[from] = (sides[from] || 0) + 1);
        const x1 = a.x + WIDE / 2;
        const x2 = b.x + WIDE / 2;
        const out = Math.max(x1, x2) + 14 + side * 14;
        d = `M${x1} ${a.y + HIGH * 0.6} C${out + 12} ${a.y + HIGH * 0.6} ${out + 12} ${b.y + HIGH * 0.4} ${x2} ${b.y + HIGH * 0.4}`;
        [tx, ty] = [out, (a.y + b.y + HIGH) / 2];
      } else {
        const y1 = a.y + HIGH - (notes[from]?.isPlace ? 8 : 0);
        const y2 = b.y + (notes[to]?.isPlace ? 8 : 0);
        const middle = (y1 + y2) / 2;
        const bend = (seen[pair] - 1) * 40;
        d = `M${a.x} ${y1} C${a.x + bend} ${middle} ${b.x + bend} ${middle} ${b.x} ${y2}`;
        [tx, ty] = [(a.x + b.x) / 2 + bend * 0.75, middle];
      }
      return html`<g key=${n} class=${note?.isFaint ? "is-faint" : ""}>
        <path class=${`arrow ${text === null ? "any" : ""}`} d=${d} marker-end="url(#head)" />
        ${text && html`<text class="arrow-text" x=${tx} y=${ty} text-anchor="middle">${visible(className(text))}${note?.times > 1 ? ` ×${count(note.times)}` : ""}</text>`}
      </g>`;
    })}
    ${names.map((name) => {
      const box = laid.boxes.get(name);
      const note = notes[name] || {};
      const title = visible(titles?.[name] ?? name);
      const isPlace = note.isPlace;
      return html`<g key=${name} class=${`node ${note.state ? `n-${note.state}` : ""} ${isPlace ? "n-place" : ""}`} transform=${`translate(${box.x - WIDE / 2} ${box.y})`}>
        <title>${title}</title>
        <rect x=${isPlace ? WIDE / 2 - 44 : 0} y=${isPlace ? 8 : 0} width=${isPlace ? 88 : WIDE} height=${isPlace ? HIGH - 16 : HIGH} rx=${isPlace ? 15 : 7} />
        <text x=${WIDE / 2} y=${note.text ? 20 : HIGH / 2 + 1} text-anchor="middle" dominant-baseline="middle">${title.length > 21 ? `${title.slice(0, 20)}…` : title}</text>
        ${note.text && html`<text class="note" x=${WIDE / 2} y="35" text-anchor="middle" dominant-baseline="middle">${note.text}</text>`}
      </g>`;
    })}
  </svg>`;
}

// What happened in a run: which step emitted what for which, up to a record.
function observed(course, at) {
  const steps = new Map();
  const arrows = new Map();
  for (let i = 0; i < course.count; i += 1) {
    const name = course.stepOf(i);
    if (!steps.has(name)) steps.set(name, { queued: 0, running: 0, waiting: 0, finished: 0, failed: 0 });
    const end = course.endAt(i, at);
    const cause = course.causeOf(i);
    if (course.number[i] === 1 && (cause !== null || course.record[i] === 0)) {
      const from = cause === null ? "\u0000start" : course.stepOf(cause);
      const key = `${from}\n${name}\n${course.eventOf(i)}`;
      const arrow = arrows.get(key) || { from, to: name, event: course.eventOf(i), times: 0 };
      if (end !== null) arrow.times += 1;
      arrows.set(key, arrow);
    }
    if (end === null) continue;
    const counts = steps.get(name);
    if (end === QUEUED) counts.queued += 1;
    else if (end === RUNNING) counts.running += 1;
    else if (end === WAITING) counts.waiting += 1;
    else if (end === FINISHED || end === ENDED_RUN) counts.finished += 1;
    else if (end === FAILED || end === CUT_SHORT) counts.failed += end === FAILED ? 1 : 0;
    else if (end === AGAIN) counts.failed += 0;
  }
  return { steps, arrows: [...arrows.values()] };
}

export function GraphTab({ course, run, at }) {
  const [declared, setDeclared] = useState(null);
  useEffect(() => {
    get("workflows").then(({ workflows }) => setDeclared(workflows.find((it) => it.name === run.workflow)?.graph || null), () => setDeclared(null));
  }, [run.workflow]);
  const seen = useMemo(() => observed(course, at), [course, at]);
  const names = [];
  const arrows = [];
  const notes = {};
  const titles = {};
  const times = new Map(seen.arrows.map((it) => [`${it.from}\n${it.to}\n${className(it.event)}`, it.times]));
  if (declared) {
    const nodes = nodesOf(declared);
    names.push(...nodes.names);
    Object.assign(titles, nodes.titles);
    Object.assign(notes, nodes.notes);
    for (const [from, to, event] of nodes.arrows) {
      const n = times.get(`${from}\n${to}\n${event}`) || 0;
      times.delete(`${from}\n${to}\n${event}`);
      arrows.push([from, to, event, { times: n, isFaint: n === 0 && !from.startsWith("\u0000") && !to.startsWith("\u0000") }]);
    }
  }
  for (const it of seen.arrows) {
    if (declared && !times.has(`${it.from}\n${it.to}\n${className(it.event)}`)) continue;
    for (const name of [it.from, it.to]) if (!names.includes(name)) names.push(name);
    arrows.push([it.from, it.to, it.event, { times: it.times, isFaint: it.times === 0 }]);
  }
  for (const [name] of seen.steps) if (!names.includes(name)) names.push(name);
  if (names.includes("\u0000start")) {
    titles["\u0000start"] = "start";
    notes["\u0000start"] = { isPlace: true };
  }
  for (const name of names) {
    const counts = seen.steps.get(name);
    if (!counts) continue;
    const parts = ["running", "waiting", "queued", "failed", "finished"].filter((kind) => counts[kind]).map((kind) => `${count(counts[kind])} ${kind}`);
    const state = counts.running ? "running" : counts.waiting ? "waiting" : counts.failed && !counts.finished ? "failed" : counts.finished ? "done" : "";
    notes[name] = { text: parts.slice(0, 2).join(", ") || "not begun", state };
  }
  return html`<div class="graph-tab" tabindex="0" role="region" aria-label="graph">
    ${!declared && html`<p class="note">This is what the run did. Its workflow is not one of this process, so that steps it did not come to are not shown.</p>`}
    <div class="graph-box"><${Graph} names=${names} titles=${titles} arrows=${arrows} notes=${notes} label=${`graph of workflow ${run.workflow}`} /></div>
    <table class="plain"><caption class="unseen">Steps</caption>
      <thead><tr><th>Step</th><th>Queued</th><th>Running</th><th>Waiting</th><th>Finished</th><th>Failed attempts</th></tr></thead>
      <tbody>${[...seen.steps].map(
        ([name, it]) => html`<tr key=${name}><th scope="row">${visible(name)}</th><td>${count(it.queued)}</td><td>${count(it.running)}</td><td>${count(it.waiting)}</td><td>${count(it.finished)}</td><td>${count(it.failed)}</td></tr>`,
      )}</tbody></table>
    <p class="note">${plural(seen.arrows.length, "kind")} of events led from one step to another.</p>
  </div>`;
}

// A graph as the server tells it, with places of its own for the start, the end and what comes from outside.
export function nodesOf(graph) {
  const of = (end) => (end.step !== undefined ? end.step : `\u0000${end.place}`);
  const arrows = graph.arrows.map((it) => [of(it.from), of(it.to), it.event]);
  const titles = {};
  const notes = {};
  const used = new Set(arrows.flatMap(([from, to]) => [from, to]));
  const places = ["start", "outside", "stop", "any"].filter((place) => used.has(`\u0000${place}`));
  for (const place of places) {
    titles[`\u0000${place}`] = place === "any" ? "any step" : place;
    notes[`\u0000${place}`] = { isPlace: true };
  }
  const before = places.filter((place) => place === "start" || place === "outside").map((place) => `\u0000${place}`);
  const after = places.filter((place) => place === "stop" || place === "any").map((place) => `\u0000${place}`);
  return { names: [...before, ...graph.steps, ...after], arrows, titles, notes };
}
