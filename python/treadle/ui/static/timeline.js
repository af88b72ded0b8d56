// The timeline: a canvas with a lane for each step, a table that says the same, and an inspector of one attempt.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./dom.js";
import { now } from "./api.js";
import { AGAIN, CUT_SHORT, ENDS, FAILED, LIKE, NEVER, QUEUED, WAITING, axis, isOpen, lanes, placeOf, timeAt } from "./course.js";
import { className, count, lasts, plural, visible } from "./format.js";
import { Grid } from "./grid.js";
import { Icon, Status } from "./parts.js";
import { theme } from "./theme.js";

// The names of the lanes are beside them; there is one canvas at a time.
const WIDE = 148;
const NARROW = 84;
let labels = WIDE;
const ROW = 16;
const DENSE = 44;
const GAP = 10;
const TOP = 26;

const COLUMNS = [
  { name: "status", title: "End", width: "124px" },
  { name: "step", title: "Step", width: "minmax(90px, 1fr)" },
  { name: "event", title: "Event", width: "minmax(90px, 1fr)" },
  { name: "attempt", title: "Attempt", width: "72px" },
  { name: "began", title: "Began", width: "92px" },
  { name: "lasted", title: "Took", width: "86px" },
  { name: "record", title: "Record", width: "76px" },
];

export function Timeline({ course, run, at, setAt }) {
  const [chosen, setChosen] = useState(null);
  const [focus, setFocus] = useState(null);
  const isOver = run.finished !== null;
  const until = Math.max((isOver ? run.finished : Math.max(run.updated, now())) - run.created, 0.001);
  const order = useMemo(() => {
    const all = Uint32Array.from({ length: course.count }, (_, i) => i);
    return all.sort((a, b) => course.record[a] - course.record[b] || a - b);
  }, [course]);
  const row = (n) => {
    const i = order[n];
    if (i === undefined) return null;
    const end = course.endAt(i, at);
    const shown = end === null ? QUEUED : end;
    return {
      key: i,
      isSelected: i === chosen,
      className: end === null ? "later" : "",
      label: `${ENDS[shown]}, step ${course.stepOf(i)}, attempt ${course.number[i]}`,
      onOpen: () => setChosen(i),
      cells: [
        html`<span class="ended"><${Status} of=${LIKE[shown]} quiet /> <span class="end">${end === null ? "later" : ENDS[shown]}</span></span>`,
        visible(course.stepOf(i)),
        html`<span title=${course.eventOf(i)}>${visible(className(course.eventOf(i)))}</span>`,
        course.number[i],
        Number.isNaN(course.began(i)) ? "" : `+${lasts(course.began(i)) || "0"}`,
        lasts(course.ran[i]),
        count(course.record[i]),
      ],
    };
  };
  if (!course.count) return html`<div class="empty">No step has begun.</div>`;
  return html`<div class=${`timeline ${chosen === null ? "" : "with-inspector"}`}>
    <div class="timeline-main">
      <${Canvas} course=${course} until=${until} at=${at} isOver=${isOver} chosen=${chosen} choose=${setChosen} />
      <h2 class="unseen">Attempts</h2>
      <${Grid} label="Attempts" columns=${COLUMNS} count=${course.count} row=${row} rowHeight=${30} focusRow=${focus} onFocusRow=${setFocus} />
    </div>
    ${chosen !== null && chosen < course.count && html`<${Inspector} course=${course} i=${chosen} setAt=${setAt} close=${() => setChosen(null)} choose=${setChosen} />`}
  </div>`;
}

function Inspector({ course, i, setAt, close, choose }) {
  const cause = course.causeOf(i);
  const failure = course.failures.get(i);
  const record = (n, text) =>
    n ? html`<button type="button" class="link" onClick=${() => setAt(n)}>record ${count(n)}</button> ${text}` : html`<span class="faint">not known</span>`;
  return html`<aside class="inspector" aria-label="attempt">
    <header>
      <h2>${visible(course.stepOf(i))}</h2>
      <button type="button" class="bare" onClick=${close} aria-label="close"><${Icon} name="close" /></button>
    </header>
    <p class="ended"><${Status} of=${LIKE[course.end[i]]} quiet /> ${ENDS[course.end[i]]}</p>
    ${failure && html`<pre class="trace">${visible(failure)}</pre>`}
    <dl>
      <dt>Event</dt><dd title=${course.eventOf(i)}>${visible(className(course.eventOf(i)))}</dd>
      <dt>Delivery</dt><dd>${count(course.delivery[i])}, attempt ${course.number[i]}</dd>
      <dt>Queued</dt><dd>${record(course.record[i], Number.isNaN(course.queued[i]) ? "" : `for ${lasts(course.queued[i])}`)}</dd>
      <dt>Began</dt><dd>${course.beganRecord[i] ? record(course.beganRecord[i], `at +${lasts(course.began(i)) || "0"}`) : html`<span class="faint">not yet</span>`}</dd>
      ${!Number.isNaN(course.waits[i]) && html`<dt>Waited</dt><dd>from +${lasts(course.start[i] + course.waits[i])}</dd>`}
      <dt>Ended</dt><dd>${course.endedRecord[i] ? record(course.endedRecord[i], Number.isNaN(course.ran[i]) ? "" : `after ${lasts(course.ran[i])}`) : html`<span class="faint">${isOpen(course, i) ? "not yet" : "with the run"}</span>`}</dd>
      ${cause !== null &&
      html`<dt>Caused by</dt><dd><button type="button" class="link" onClick=${() => choose(cause)}>${visible(course.stepOf(cause))}, attempt ${course.number[cause]}</button></dd>`}
    </dl>
  </aside>`;
}

function Canvas({ course, until, at, isOver, chosen, choose }) {
  const box = useRef(null);
  const canvas = useRef(null);
  const [width, setWidth] = useState(0);
  const [view, setView] = useState({ from: 0, to: 1 });
  const [hover, setHover] = useState(null);
  const shape = theme.value;
  const laid = useMemo(() => lanes(course, until), [course, isOver ? until : Math.floor(until)]);
  const scale = useMemo(() => axis(course, until), [course, isOver ? until : Math.floor(until)]);
  const tops = useMemo(() => {
    let y = TOP;
    return laid.map((lane) => {
      const top = y;
      y += (lane.isDense ? DENSE : lane.rows * (ROW + 2)) + GAP;
      return top;
    });
  }, [laid]);
  const height = laid.length ? tops[tops.length - 1] + laneHeight(laid[laid.length - 1]) + GAP : TOP;

  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => setWidth(box.current.clientWidth));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);

  labels = width < 560 ? NARROW : WIDE;
  const inner = Math.max(width - labels - 16, 10);
  const x = (place) => labels + ((place / scale.length - view.from) / (view.to - view.from)) * inner;
  const drawing = { course, laid, tops, scale, view, width, height, inner, x, at, until, isOver, chosen, hover };
  useLayoutEffect(() => {
    if (width) draw(canvas.current, drawing);
  }, [course, laid, scale, view, width, at, chosen, hover, shape, isOver ? 0 : until]);

  const zoom = (factor, middle) => {
    setView((before) => {
      const span = Math.min(1, Math.max((before.to - before.from) * factor, 1e-6));
      const anchor = before.from + (before.to - before.from) * middle;
      const from = Math.min(Math.max(anchor - span * middle, 0), 1 - span);
      return { from, to: from + span };
    });
  };
  const pan = (share) => {
    setView(({ from, to }) => {
      const moved = Math.min(Math.max(from + share * (to - from), 0), 1 - (to - from));
      return { from: moved, to: moved + to - from };
    });
  };
  useEffect(() => {
    const wheel = (event) => {
      const middle = (event.offsetX - labels) / inner;
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom(Math.exp(event.deltaY * 0.004), Math.min(Math.max(middle, 0), 1));
      } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
        event.preventDefault();
        pan((event.deltaX || event.deltaY) / inner);
      }
    };
    const fit = () => setView({ from: 0, to: 1 });
    const element = canvas.current;
    element.addEventListener("wheel", wheel, { passive: false });
    addEventListener("timeline-fit", fit);
    return () => (element.removeEventListener("wheel", wheel), removeEventListener("timeline-fit", fit));
  }, [inner]);

  const drag = useRef(null);
  const down = (event) => {
    drag.current = { x: event.clientX, moved: false };
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const over = (event) => {
    if (drag.current && event.buttons) {
      const dx = event.clientX - drag.current.x;
      if (Math.abs(dx) > 3 || drag.current.moved) {
        drag.current = { x: event.clientX, moved: true };
        pan(-dx / inner);
      }
      return;
    }
    setHover(found(drawing, event.nativeEvent?.offsetX ?? event.offsetX, event.offsetY));
  };
  const up = (event) => {
    if (drag.current && !drag.current.moved) {
      const it = found(drawing, event.offsetX, event.offsetY);
      if (it !== null) choose(it);
    }
    drag.current = null;
  };
  const tip =
    hover !== null &&
    `${course.stepOf(hover)}, ${ENDS[course.end[hover]]}${Number.isNaN(course.ran[hover]) ? "" : `, ${lasts(course.ran[hover])}`}`;
  return html`<div class="canvas-box" ref=${box}>
    <div class="canvas-tools">
      <span class="legend" aria-hidden="true"><i class="k-queued"></i>queued <i class="k-running"></i>ran <i class="k-waiting"></i>waited <i class="k-failed"></i>failed</span>
      <span class="grow"></span>
      <span class="tip faint">${tip ? visible(tip) : plural(course.count, "attempt")}</span>
      <button type="button" class="small" onClick=${() => zoom(0.5, 0.5)} aria-label="zoom in">+</button>
      <button type="button" class="small" onClick=${() => zoom(2, 0.5)} aria-label="zoom out">−</button>
      <button type="button" class="small" onClick=${() => setView({ from: 0, to: 1 })}>Fit</button>
    </div>
    <div class="canvas-scroll">
      <canvas
        ref=${canvas} aria-hidden="true" style=${{ width: `${width}px`, height: `${height}px` }}
        onPointerDown=${down} onPointerMove=${over} onPointerUp=${up} onPointerLeave=${() => setHover(null)}
      ></canvas>
    </div>
  </div>`;
}

const laneHeight = (lane) => (lane.isDense ? DENSE : lane.rows * (ROW + 2));

function lowest(numbers, least) {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

function found({ course, laid, tops, scale, view, inner, at }, px, py) {
  const place = (view.from + ((px - labels) / inner) * (view.to - view.from)) * scale.length;
  const slack = timeAt(scale, place + (3 / inner) * (view.to - view.from) * scale.length);
  const time = timeAt(scale, place - (3 / inner) * (view.to - view.from) * scale.length);
  for (let n = 0; n < laid.length; n += 1) {
    const lane = laid[n];
    if (lane.isDense || py < tops[n] || py >= tops[n] + laneHeight(lane)) continue;
    const wanted = Math.floor((py - tops[n]) / (ROW + 2));
    for (let k = lowest(lane.starts, slack) - 1; k >= 0; k -= 1) {
      const i = lane.attempts[k];
      if (lane.rowOf.get(i) === wanted) return lane.ends[k] >= time ? i : null;
    }
  }
  return null;
}

function draw(canvas, d) {
  const { course, laid, tops, scale, view, width, height, x, at, until, isOver } = d;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  const ink = colours();
  c.font = "12px system-ui, sans-serif";
  c.textBaseline = "middle";
  const right = width - 16;
  grid(c, d, ink, right);
  c.save();
  c.beginPath();
  c.rect(labels - 1, TOP - 4, right - labels + 2, height);
  c.clip();
  const from = timeAt(scale, view.from * scale.length);
  const to = timeAt(scale, view.to * scale.length);
  laid.forEach((lane, n) => {
    const last = lowest(lane.starts, to + 1e-9);
    if (lane.isDense) density(c, d, ink, lane, tops[n], from, to, last);
    else for (let k = 0; k < last; k += 1) if (lane.ends[k] >= from) bar(c, d, ink, lane, k, tops[n]);
  });
  if (at !== null) {
    const line = Math.round(x(placeOf(scale, Math.min(course.timeOf(at), until)))) + 0.5;
    c.strokeStyle = ink.accent;
    c.lineWidth = 1.5;
    c.beginPath();
    c.moveTo(line, TOP - 4);
    c.lineTo(line, height);
    c.stroke();
  }
  c.restore();
  c.textAlign = "left";
  laid.forEach((lane, n) => {
    c.fillStyle = ink.text;
    c.font = "500 12px system-ui, sans-serif";
    const middle = tops[n] + Math.min(laneHeight(lane), ROW + 2) / 2;
    c.fillText(fitted(c, visible(lane.name), labels - 24), 0, middle);
    if (lane.isDense) {
      c.fillStyle = ink.faint;
      c.font = "11px system-ui, sans-serif";
      c.fillText(plural(lane.attempts.length + lane.unknown, "attempt"), 0, middle + 17);
    }
  });
}

function fitted(c, text, width) {
  if (c.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && c.measureText(`${short}…`).width > width) short = short.slice(0, -1);
  return `${short}…`;
}

// Lines at round times, and the folded gaps with their length.
function grid(c, { scale, view, x, height }, ink, right) {
  const seconds = (view.to - view.from) * scale.length;
  const rough = seconds / Math.max((right - labels) / 110, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const step = rough < 60 ? nice : [60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800].find((n) => n >= rough) || nice;
  c.font = "11px system-ui, sans-serif";
  c.lineWidth = 1;
  let free = -Infinity;
  for (const piece of scale.pieces) {
    const left = x(piece.place);
    if (piece.isFolded) {
      const end = x(piece.place + (piece.end - piece.time) * piece.rate);
      if (end < labels || left > right) continue;
      const [a, b] = [Math.max(left, labels), Math.min(end, right)];
      c.fillStyle = ink.fold;
      c.fillRect(a, TOP - 4, b - a, height);
      const text = lasts(piece.end - piece.time);
      const wide = c.measureText(text).width;
      if (b - a > wide - 16 && a > free) {
        c.fillStyle = ink.faint;
        c.textAlign = "center";
        c.fillText(text, (a + b) / 2, 10);
        free = (a + b) / 2 + wide / 2 + 8;
      }
      continue;
    }
    const begin = Math.max(piece.time, timeAt(scale, view.from * scale.length));
    for (let t = Math.ceil(begin / step) * step; t <= piece.end + 1e-9; t += step) {
      const at = x(piece.place + t - piece.time);
      if (at > right) break;
      if (at < labels) continue;
      c.strokeStyle = ink.line;
      c.beginPath();
      c.moveTo(Math.round(at) + 0.5, TOP - 6);
      c.lineTo(Math.round(at) + 0.5, height);
      c.stroke();
      const text = t === 0 ? "0" : `+${lasts(t).replace(/\.0+ /, " ").replace(/(\.\d*?)0+ /, "$1 ")}`;
      const wide = c.measureText(text).width;
      if (at - wide / 2 > free && at + wide / 2 < right + 12) {
        c.fillStyle = ink.faint;
        c.textAlign = "center";
        c.fillText(text, Math.max(at, labels + wide / 2 - 8), 10);
        free = at + wide / 2 + 10;
      }
    }
  }
}

function bar(c, { course, scale, x, at, isOver, chosen, hover, until }, ink, lane, k, top) {
  const i = lane.attempts[k];
  const row = lane.rowOf.get(i);
  if (row === undefined) return;
  const y = top + row * (ROW + 2);
  const end = course.endAt(i, at);
  const kind = end === null ? course.end[i] : end;
  c.globalAlpha = end === null ? 0.22 : 1;
  const start = x(placeOf(scale, course.start[i]));
  const wait = course.waits[i];
  if (!Number.isNaN(course.queued[i]) && course.queued[i] > 0) {
    const begin = x(placeOf(scale, course.start[i] - course.queued[i]));
    c.fillStyle = ink.queued;
    c.fillRect(begin, y + ROW / 2 - 1.5, Math.max(start - begin, 0), 3);
  }
  if (kind === QUEUED || kind === NEVER) {
    c.strokeStyle = ink.queued;
    c.strokeRect(start + 0.5, y + 2.5, 5, ROW - 5);
  } else if (Number.isNaN(course.ran[i]) && !(isOpen(course, i) && !isOver)) {
    // It ended, and nobody knows when.
    c.fillStyle = kind === FAILED ? ink.failed : ink.done;
    c.fillRect(start, y, 2, ROW);
  } else {
    const stop = x(placeOf(scale, lane.ends[k]));
    const wide = Math.max(stop - start, 2);
    const waited = Number.isNaN(wait) ? null : x(placeOf(scale, course.start[i] + wait));
    c.fillStyle = kind === FAILED ? ink.failed : isOpen(course, i) && end !== null && kind === course.end[i] ? ink.running : kind === CUT_SHORT ? ink.cut : ink.done;
    rounded(c, start, y, waited === null ? wide : Math.max(waited - start, 2), ROW);
    if (waited !== null && stop > waited) {
      c.strokeStyle = kind === WAITING || course.end[i] === WAITING ? ink.waiting : ink.done;
      c.lineWidth = 1.2;
      c.setLineDash([3, 2]);
      c.strokeRect(waited + 0.5, y + 0.5, stop - waited - 1, ROW - 1);
      c.setLineDash([]);
    }
    if (kind === AGAIN) hatched(c, start, y, wide, ink);
    if (kind === FAILED && wide > 10) crossed(c, start + wide / 2, y + ROW / 2, ink);
  }
  if (i === chosen || i === hover) {
    const stop = Math.max(x(placeOf(scale, lane.ends[k])), start + 2);
    c.strokeStyle = i === chosen ? ink.accent : ink.text;
    c.lineWidth = i === chosen ? 2 : 1;
    c.strokeRect(start - 1.5, y - 1.5, stop - start + 3, ROW + 3);
  }
  c.globalAlpha = 1;
}

function rounded(c, x, y, wide, high) {
  c.beginPath();
  c.roundRect(x, y, wide, high, Math.min(3, wide / 2));
  c.fill();
}

function hatched(c, x, y, wide, ink) {
  c.save();
  c.beginPath();
  c.rect(x, y, wide, ROW);
  c.clip();
  c.strokeStyle = ink.back;
  c.lineWidth = 2;
  for (let at = x - ROW; at < x + wide; at += 6) {
    c.beginPath();
    c.moveTo(at, y + ROW);
    c.lineTo(at + ROW, y);
    c.stroke();
  }
  c.restore();
}

function crossed(c, x, y, ink) {
  c.strokeStyle = ink.back;
  c.lineWidth = 1.6;
  c.beginPath();
  c.moveTo(x - 3, y - 3);
  c.lineTo(x + 3, y + 3);
  c.moveTo(x + 3, y - 3);
  c.lineTo(x - 3, y + 3);
  c.stroke();
}

// How many attempts run at a time, for each pixel.
function density(c, { course, scale, x, inner, at }, ink, lane, top, from, to, last) {
  const pixels = Math.ceil(inner) + 1;
  const running = new Float32Array(pixels + 1);
  const failed = new Float32Array(pixels + 1);
  for (let k = 0; k < last; k += 1) {
    if (lane.ends[k] < from) continue;
    const i = lane.attempts[k];
    if (at !== null && course.record[i] > at) continue;
    // What is queued does not run.
    const begin = Math.max(Math.floor(x(placeOf(scale, course.start[i])) - labels), 0);
    const end = Math.min(Math.max(Math.ceil(x(placeOf(scale, lane.ends[k])) - labels), begin + 1), pixels);
    if (begin >= pixels || end <= 0) continue;
    running[begin] += 1;
    running[end] -= 1;
    if (course.end[i] === FAILED) {
      failed[begin] += 1;
      failed[end] -= 1;
    }
  }
  let most = 1;
  let sum = 0;
  for (let p = 0; p < pixels; p += 1) {
    sum += running[p];
    if (sum > most) most = sum;
  }
  const high = DENSE - 4;
  const column = (counts, colour) => {
    c.fillStyle = colour;
    let now = 0;
    for (let p = 0; p < pixels; p += 1) {
      now += counts[p];
      if (now > 0) {
        const tall = Math.max((now / most) * high, 1);
        c.fillRect(labels + p, top + high - tall, 1, tall);
      }
    }
  };
  column(running, ink.done);
  column(failed, ink.failed);
  c.strokeStyle = ink.line;
  c.beginPath();
  c.moveTo(labels, top + high + 0.5);
  c.lineTo(labels + inner, top + high + 0.5);
  c.stroke();
  c.fillStyle = ink.faint;
  c.font = "11px system-ui, sans-serif";
  c.textAlign = "right";
  c.fillText(`up to ${count(most)} at a time`, labels + inner - 4, top + 7);
}

let known = { shape: null };

// The colours of the canvas are those of the page, as the browser shows them.
function colours() {
  if (known.shape === theme.value && known.forced === matchMedia("(forced-colors: active)").matches) return known.ink;
  const probe = document.createElement("span");
  probe.className = "unseen";
  document.body.append(probe);
  const ink = {};
  for (const name of ["text", "faint", "line", "fold", "back", "queued", "running", "waiting", "done", "failed", "cut", "accent"]) {
    probe.style.color = `var(--c-${name})`;
    ink[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  known = { shape: theme.value, forced: matchMedia("(forced-colors: active)").matches, ink };
  return ink;
}
