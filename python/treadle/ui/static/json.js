// JSON as a tree of what its text says: numbers with all their digits, keys in their order, also those that come twice.
// The text was made by the server's core and is well formed; what is not is shown as it stands.

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const STRING = /"(?:[^"\\]|\\.)*"/y;
const BLANK = /[\s]*/y;

// A node is {kind, text} of a leaf, or {kind, items} of a list, or {kind, items: [[key, node]]} of an object.
export function tree(text) {
  const reader = new Reader(text);
  try {
    const node = reader.value(0);
    reader.blank();
    return reader.at === text.length ? node : { kind: "text", text };
  } catch {
    return { kind: "text", text };
  }
}

const DEEPEST = 500;

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (!found) throw new SyntaxError();
    this.at = pattern.lastIndex;
    return found[0];
  }

  blank() {
    this.match(BLANK);
  }

  takes(mark) {
    this.blank();
    if (this.text[this.at] !== mark) return false;
    this.at += 1;
    return true;
  }

  value(depth) {
    if (depth > DEEPEST) throw new RangeError();
    this.blank();
    const c = this.text[this.at];
    if (c === '"') return { kind: "string", text: JSON.parse(this.match(STRING)) };
    if (c === "[") return this.list(depth);
    if (c === "{") return this.object(depth);
    for (const word of ["true", "false", "null", "NaN", "Infinity", "-Infinity"]) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return { kind: word === "true" || word === "false" ? "bool" : word === "null" ? "null" : "number", text: word };
      }
    }
    return { kind: "number", text: this.match(NUMBER) };
  }

  list(depth) {
    const items = [];
    this.at += 1;
    if (this.takes("]")) return { kind: "list", items };
    do items.push(this.value(depth + 1));
    while (this.takes(","));
    if (!this.takes("]")) throw new SyntaxError();
    return { kind: "list", items };
  }

  object(depth) {
    const items = [];
    this.at += 1;
    if (this.takes("}")) return { kind: "object", items };
    do {
      this.blank();
      const key = JSON.parse(this.match(STRING));
      if (!this.takes(":")) throw new SyntaxError();
      items.push([key, this.value(depth + 1)]);
    } while (this.takes(","));
    if (!this.takes("}")) throw new SyntaxError();
    return { kind: "object", items };
  }
}
