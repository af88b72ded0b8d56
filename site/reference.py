"""The reference of the API as pages, from the signatures and docstrings of `public_api`."""

import re
from collections.abc import Iterator

from public_api import Member, Public, public_api

GROUPS = {
    "workflows": (
        "Workflows and steps",
        ["Workflow", "step", "Retry", "Resource", "close_resources"],
    ),
    "events": ("Events", ["Event", "StartEvent", "StopEvent", "StepFailed", "Lagged"]),
    "context": ("Context", ["Context"]),
    "runs": ("Runs", ["Run", "StreamReader", "failure_of", "FailureInfo"]),
    "engine": ("Engine", ["Engine", "RunHandle", "RunInfo"]),
    "snapshots": ("Snapshots", ["inspect", "Inspection"]),
    "exceptions": ("Exceptions", []),
    "testing": ("Testing", []),
    "other": ("Other", []),
}
SECTION = re.compile(r"(Args|Returns|Raises|Warns|Raises, when awaited):")
ITEM = re.compile(r"(?:`?[\w*, .]+`?): ")


def pages() -> dict[str, str]:
    """Return the pages of the reference, by the name of their file."""
    groups: dict[str, list[Public]] = {group: [] for group in GROUPS}
    for public in public_api():
        groups[_group(public)].append(public)
    written = {f"{group}.md": _page(group, found) for group, found in groups.items() if found}
    return {"index.md": _index(groups), **written}


def _group(public: Public) -> str:
    if public.module == "treadle.testing":
        return "testing"
    for group, (_, names) in GROUPS.items():
        if public.name in names:
            return group
    is_error = re.search(
        r"\((\w*Error|SnapshotError|Exception|UserWarning|Journal\w+)\b", public.signatures[0]
    )
    return "exceptions" if is_error else "other"


def _index(groups: dict[str, list[Public]]) -> str:
    lines = ["# API reference", "", "Every public name, from its signature and docstring.", ""]
    for group, found in groups.items():
        names = ", ".join(
            f"[`{public.name}`]({group}.md#{_anchor(public.name)})" for public in found
        )
        if names:
            lines.append(f"- **{GROUPS[group][0]}**: {names}")
    return "\n".join([*lines, ""])


def _page(group: str, found: list[Public]) -> str:
    order = GROUPS[group][1]
    found = sorted(found, key=lambda public: order.index(public.name) if order else 0)
    module = "treadle.testing" if group == "testing" else "treadle"
    lines = [f"# {GROUPS[group][0]}", "", f"Import these names from `{module}`.", ""]
    for public in found:
        lines += [f"## {public.name} {{ #{_anchor(public.name)} }}", ""]
        lines += _code([*public.signatures, *_constructors(public)])
        lines += [*_text(public.doc), ""]
        for member in public.members:
            lines += _member(public.name, member)
    return "\n".join(lines)


def _constructors(public: Public) -> list[str]:
    """Return how instances are made, if that is documented at the class."""
    return [
        re.sub(r"__init__\(self(?:, )?", f"{public.name}(", signature).removesuffix(" -> None")
        for member in public.members
        if member.name == "__init__"
        for signature in member.signatures
    ]


def _member(owner: str, member: Member) -> Iterator[str]:
    is_call = "(" in member.signatures[0].partition(":")[0]
    if not is_call and not member.doc:
        yield f"- `{member.signatures[0]}`"
        return
    if member.name.startswith("__"):
        return
    yield ""
    yield f"### {owner}.{member.name} {{ #{_anchor(owner)}-{member.name} }}"
    yield ""
    yield from _code([re.sub(r"\(self(?:, )?", "(", signature) for signature in member.signatures])
    yield from _text(member.doc)
    yield ""


def _code(signatures: list[str]) -> list[str]:
    return ["```python", *map(_wrapped, signatures), "```", ""]


def _wrapped(signature: str) -> str:
    """Break a long signature, one parameter a line."""
    if len(signature) <= 88 or "(" not in signature:
        return signature
    name, _, rest = signature.partition("(")
    inside, _, result = rest.rpartition(")")
    parameters, depth = [""], 0
    for character in inside:
        depth += (character in "[(") - (character in "])")
        if character == "," and depth == 0:
            parameters.append("")
        else:
            parameters[-1] += character
    lines = "".join(f"    {parameter.strip()},\n" for parameter in parameters)
    return f"{name}(\n{lines}){result}"


def _text(doc: str) -> Iterator[str]:
    """Turn a docstring into Markdown: its sections become lists, its sessions code."""
    for paragraph in re.split(r"\n\s*\n", doc):
        lines = paragraph.splitlines()
        if not lines:
            continue
        if lines[0].startswith(">>>"):
            yield from ["```pycon", *lines, "```", ""]
        elif SECTION.fullmatch(lines[0]):
            yield from [f"**{lines[0]}**", "", *_items(lines[1:]), ""]
        else:
            yield from [*lines, ""]


def _items(lines: list[str]) -> Iterator[str]:
    """Yield the entries of a section; a line that is indented further continues an entry."""
    indent = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    for line in lines:
        text = line[indent:]
        if text.startswith(" "):
            yield f"  {text.strip()}"
        elif ITEM.match(text):
            name, _, rest = text.partition(": ")
            yield f"- `{name}`: {rest}"
        else:
            yield f"- {text}"


def _anchor(name: str) -> str:
    return name.lower()
