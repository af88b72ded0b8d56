"""Builds the site into target/site/html: pages for a browser, from a server or from the disk.

The pages are those of docs/, the examples, and a reference of the API. Beside each page is its
Markdown; `llms.txt` lists the pages for programs that read them. A broken link is an error.

    python site/build.py ZENSICAL
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import links
import reference

ROOT = Path(__file__).parents[1]
SITE = ROOT / "target/site"
PAGES = SITE / "pages"
HTML = SITE / "html"
# Files outside of docs/ that are pages of the site, by their names there.
OUTSIDE = {
    "CHANGELOG.md": "changes.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "tests/python/fixtures/public_api.txt": "public_api.txt",
}
LINK = re.compile(r"(\]\()([^)#\s:]*)(#[^)\s]*)?(\))")
ENTRY = re.compile(r"^- \[([^\]]+)\]\(([^)]+)\)(?:: (.*))?$")
# The generator's pages load a worker for the search from there when they are opened from the disk.
ELSEWHERE = "https://unpkg.com/iframe-worker/shim"
SUMMARY = "Durable execution for async Python, embedded in your process."


def main() -> None:
    """Build everything anew, and print where it is."""
    shutil.rmtree(SITE, ignore_errors=True)
    stage()
    (SITE / "zensical.toml").write_text(configuration(), "utf-8")
    command = [sys.argv[1], "build", "--strict", "--config-file", str(SITE / "zensical.toml")]
    subprocess.run(command, check=True, timeout=600)
    make_self_contained()
    add_texts()
    if broken := links.broken(HTML):
        sys.exit("\n".join(["links that lead nowhere:", *broken]))
    print(f"file://{HTML}/index.html")


def stage() -> None:
    """Put every page where the generator looks for it, with links that hold there."""
    shutil.copytree(ROOT / "docs", PAGES)
    for outside, inside in OUTSIDE.items():
        shutil.copy(ROOT / outside, PAGES / inside)
    for name, text in {**reference_pages(), **example_pages()}.items():
        (PAGES / name).parent.mkdir(exist_ok=True)
        (PAGES / name).write_text(text, "utf-8")
    shutil.copy(ROOT / "site/site.css", PAGES)
    for page in PAGES.rglob("*.md"):
        page.write_text(with_links(page), "utf-8")


def reference_pages() -> dict[str, str]:
    """Return the pages of the reference."""
    return {f"reference/{name}": text for name, text in reference.pages().items()}


def example_pages() -> dict[str, str]:
    """Make a page of each example: its first paragraphs, then its code."""
    made, listed = {}, ["# Examples", "", "Programs to copy. Each is run by the tests.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        _, doc, code = path.read_text("utf-8").split('"""', 2)
        first, _, rest = doc.strip().partition("\n\n")
        made[f"examples/{path.stem}.md"] = (
            f"# {path.name}\n\n{first}\n\n{rest}\n\n```python\n{code.strip()}\n```\n"
        )
        listed.append(f"- [{path.name}]({path.stem}.md): {' '.join(first.split())}")
    return {"examples/index.md": "\n".join([*listed, ""]), **made}


def with_links(page: Path) -> str:
    """Return the text of a page; a link out of docs/ leads to the page that stands for it."""
    home = ROOT / "docs" / page.relative_to(PAGES)
    if page.name in OUTSIDE.values():
        home = ROOT / page.name
    up = "../" * len(page.relative_to(PAGES).parents[1:])

    def moved(match: re.Match[str]) -> str:
        target = match[2]
        if not target:
            return match[0]
        path = (home.parent / target).resolve()
        if not path.is_relative_to(ROOT) or "reference/" in str(page) or "examples/" in str(page):
            return match[0]
        return f"{match[1]}{up}{place(path.relative_to(ROOT))}{match[3] or ''}{match[4]}"

    return LINK.sub(moved, page.read_text("utf-8"))


def place(path: Path) -> str:
    """Return where a file of the project is on the site."""
    name = path.as_posix()
    if name in OUTSIDE:
        return OUTSIDE[name]
    if name == "examples":
        return "examples/index.md"
    if name.startswith("examples/"):
        return str(path.with_suffix(".md"))
    return name.removeprefix("docs/")


def sections(page: str = "index.md") -> dict[str, list[tuple[str, str, str]]]:
    """Return the lists of an index page, by heading: title, page and description of entries."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    heading = ""
    for line in (PAGES / page).read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif entry := ENTRY.match(line):
            found.setdefault(heading, []).append((entry[1], entry[2], entry[3] or ""))
    return found


def configuration() -> str:
    """Complete the configuration with the navigation, which is that of the index page."""
    lines = ['  { "Home" = "index.md" },']
    for heading, entries in sections().items():
        lines.append(f'  {{ "{heading}" = [')
        for title, page, _ in entries:
            folder = Path(page).parent
            if page.endswith("index.md"):
                lines.append(f'    {{ "{title}" = {nested(folder)} }},')
            else:
                lines.append(f'    {{ "{title}" = "{page}" }},')
        lines.append("  ] },")
    lines.append(f'  {{ "API reference" = {nested(Path("reference"))} }},')
    project = [
        f'    {{ "{name}" = "{name.lower()}.md" }},'
        for name in ("Changes", "Architecture", "Contributing")
    ]
    lines += ['  { "Project" = [', *project, "  ] },"]
    text = (ROOT / "site/zensical.toml").read_text("utf-8")
    return text.replace("nav = []", "nav = [\n" + "\n".join(lines) + "\n]")


def nested(folder: Path) -> str:
    """Return the pages of a folder, its index first."""
    names = sorted(path.name for path in (PAGES / folder).glob("*.md"))
    names.remove("index.md")
    return "[" + ", ".join(f'"{folder.as_posix()}/{name}"' for name in ["index.md", *names]) + "]"


def make_self_contained() -> None:
    """Put a script of this project in the place of the one that would be loaded from elsewhere."""
    shutil.copy(ROOT / "site/file_worker.js", HTML)
    for page in HTML.rglob("*.html"):
        up = "../" * len(page.relative_to(HTML).parents[1:])
        text = page.read_text("utf-8").replace(ELSEWHERE, f"{up}file_worker.js")
        page.write_text(text, "utf-8")


def add_texts() -> None:
    """Put each page's Markdown beside it, and lists of them for programs that read."""
    for page in PAGES.rglob("*.md"):
        shutil.copy(page, HTML / page.relative_to(PAGES))
    lines = ["# treadle", "", f"> {SUMMARY}", ""]
    for heading, entries in sections().items():
        lines += [f"## {heading}", ""]
        lines += [
            f"- [{title}]({page}): {text}".removesuffix(": ") for title, page, text in entries
        ]
        lines.append("")
    lines += ["## Reference", "", "- [API reference](reference/index.md): every public name", ""]
    (HTML / "llms.txt").write_text("\n".join(lines), "utf-8")
    order = ["index.md", *sorted(str(page.relative_to(PAGES)) for page in PAGES.rglob("*.md"))]
    full = [(PAGES / name).read_text("utf-8") for name in dict.fromkeys(order)]
    (HTML / "llms-full.txt").write_text("\n\n---\n\n".join(full), "utf-8")


if __name__ == "__main__":
    main()
