// The attempts of a run, as columns, and where they lie in time.

export const ENDS = [
  "queued", "running", "waiting", "finished", "failed", "begun again", "ended the run", "running when the run ended",
  "queued when the run ended",
];
export const [QUEUED, RUNNING, WAITING, FINISHED, FAILED, AGAIN, ENDED_RUN, CUT_SHORT, NEVER] = ENDS.keys();
// The statuses whose shapes and colours are those of an end.
export const LIKE = ["queued", "running", "waiting", "completed", "failed", "stranded", "completed", "cancelled", "cancelled"];

const NO_CAUSE = 0xffffffff;

// What the server has sent: the length of a head, the head, and columns of little endian numbers.
export function decoded(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const n = head.count;
  let at = 4 + length;
  const column = (kind) => {
    const found = new kind(buffer, at, n);
    at += found.byteLength;
    return found;
  };
  const columns = {
    start: column(Float64Array),
    queued: column(Float32Array),
    ran: column(Float32Array),
    waits: column(Float32Array),
    record: column(Uint32Array),
    beganRecord: column(Uint32Array),
    endedRecord: column(Uint32Array),
    delivery: column(Uint32Array),
    cause: column(Uint32Array),
    step: column(Uint16Array),
    event: column(Uint16Array),
    number: column(Uint16Array),
    end: column(Uint8Array),
  };
  return new Course(head, columns);
}

export class Course {
  constructor(head, columns) {
    this.head = head;
    this.count = head.count;
    Object.assign(this, columns);
    this.failures = new Map(head.failures);
    this.failed = [];
    for (let i = 0; i < this.count; i += 1) if (this.end[i] === FAILED) this.failed.push(this.endedRecord[i]);
    this.failed.sort((a, b) => a - b);
  }

  stepOf(i) {
    return this.head.steps[this.step[i]];
  }

  eventOf(i) {
    return this.head.classes[this.event[i]];
  }

  causeOf(i) {
    return this.cause[i] === NO_CAUSE ? null : this.cause[i];
  }

  // Seconds since the run was created, or nothing where a time is not known.
  began(i) {
    return this.beganRecord[i] || !Number.isNaN(this.ran[i]) || this.end[i] !== QUEUED ? this.start[i] : NaN;
  }

  // How far an attempt was when the record was written.
  endAt(i, record) {
    if (record === null) return this.end[i];
    if (this.record[i] > record) return null;
    if (this.endedRecord[i] && this.endedRecord[i] <= record) return this.end[i];
    if (this.beganRecord[i] && this.beganRecord[i] <= record) return RUNNING;
    return QUEUED;
  }

  // The moment of a record, as far as one is known: the last beginning or end up to it.
  timeOf(record) {
    let found = 0;
    for (let i = 0; i < this.count; i += 1) {
      if (this.beganRecord[i] && this.beganRecord[i] <= record && this.start[i] > found) found = this.start[i];
      const end = this.start[i] + this.ran[i];
      if (this.endedRecord[i] && this.endedRecord[i] <= record && end > found) found = end;
    }
    return found;
  }
}

// The lanes: one for each step, its attempts packed into rows so that none lies on another.
export function lanes(course, until) {
  const byStep = new Map();
  for (let i = 0; i < course.count; i += 1) {
    const step = course.step[i];
    if (!byStep.has(step)) byStep.set(step, []);
    byStep.get(step).push(i);
  }
  const made = [];
  for (const [step, attempts] of byStep) {
    const from = (i) => (Number.isNaN(course.queued[i]) ? course.start[i] : course.start[i] - course.queued[i]);
    const known = attempts.filter((i) => !Number.isNaN(course.start[i])).sort((a, b) => from(a) - from(b));
    const rows = [];
    const rowOf = new Map();
    for (const i of known) {
      const end = Number.isNaN(course.ran[i]) ? (isOpen(course, i) ? until : course.start[i]) : course.start[i] + course.ran[i];
      let row = rows.findIndex((free) => free <= from(i));
      if (row < 0 && rows.length < MOST_ROWS) row = rows.push(0) - 1;
      if (row < 0) break;
      rows[row] = end;
      rowOf.set(i, row);
    }
    const isDense = rowOf.size < known.length || known.length > MOST_BARS;
    const starts = new Float64Array(known.length);
    const ends = new Float64Array(known.length);
    known.forEach((i, n) => {
      starts[n] = from(i);
      ends[n] = Number.isNaN(course.ran[i]) ? (isOpen(course, i) ? until : course.start[i]) : course.start[i] + course.ran[i];
    });
    made.push({ name: course.head.steps[step], attempts: Uint32Array.from(known), starts, ends, rowOf, rows: Math.max(rows.length, 1), isDense, unknown: attempts.length - known.length });
  }
  return made;
}

export const isOpen = (course, i) => course.end[i] === RUNNING || course.end[i] === WAITING;

// A step with more rows than that at a time, or more bars, is shown by how many there are.
const MOST_ROWS = 24;
const MOST_BARS = 4000;

// Where nothing happens, time is folded: pieces of time, each with the place at which it begins.
export function axis(course, until) {
  const spans = [];
  for (let i = 0; i < course.count; i += 1) {
    if (Number.isNaN(course.start[i])) continue;
    const from = Number.isNaN(course.queued[i]) ? course.start[i] : course.start[i] - Math.min(course.queued[i], 1);
    // What waits does nothing: only the beginning of a wait is work.
    const waits = course.waits[i];
    let to = course.start[i];
    if (course.end[i] === WAITING && !Number.isNaN(waits)) to += waits;
    else if (!Number.isNaN(course.ran[i])) to += Number.isNaN(waits) ? course.ran[i] : Math.min(course.ran[i], waits);
    else if (course.end[i] === RUNNING) to = until;
    spans.push([from, to]);
    if (!Number.isNaN(course.ran[i])) spans.push([course.start[i] + course.ran[i], course.start[i] + course.ran[i]]);
  }
  spans.push([until, until], [0, 0]);
  spans.sort((a, b) => a[0] - b[0]);
  const busy = [];
  for (const [from, to] of spans) {
    const last = busy[busy.length - 1];
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else busy.push([from, to]);
  }
  const work = busy.reduce((sum, [from, to]) => sum + to - from, 0);
  const longest = Math.max(work * 0.5, 2);
  const gaps = [];
  for (let i = 1; i < busy.length; i += 1) {
    const gap = busy[i][0] - busy[i - 1][1];
    if (gap > longest) gaps.push([busy[i - 1][1], busy[i][0]]);
  }
  // The longest ones are folded; many small ones would make the axis hard to read.
  gaps.sort((a, b) => b[1] - b[0] - (a[1] - a[0]));
  const folded = gaps.slice(0, 12).sort((a, b) => a[0] - b[0]);
  const shown = Math.max(until - folded.reduce((sum, [a, b]) => sum + b - a, 0), 1e-6);
  const width = folded.length ? Math.min(0.06, 0.4 / folded.length) * shown : 0;
  const pieces = [];
  let time = 0;
  let place = 0;
  for (const [a, b] of folded) {
    pieces.push({ time, place, rate: 1, isFolded: false, end: a });
    place += a - time;
    pieces.push({ time: a, place, rate: width / (b - a), isFolded: true, end: b });
    place += width;
    time = b;
  }
  pieces.push({ time, place, rate: 1, isFolded: false, end: until });
  place += Math.max(until - time, 0);
  return { pieces, length: Math.max(place, 1e-6) };
}

export function placeOf(axis, time) {
  const pieces = axis.pieces;
  let piece = pieces[0];
  for (let i = 1; i < pieces.length && pieces[i].time <= time; i += 1) piece = pieces[i];
  return piece.place + (time - piece.time) * piece.rate;
}

export function timeAt(axis, place) {
  const pieces = axis.pieces;
  let piece = pieces[0];
  for (let i = 1; i < pieces.length && pieces[i].place <= place; i += 1) piece = pieces[i];
  return piece.time + (place - piece.place) / piece.rate;
}
