"""Finds links of built pages that lead nowhere: to a file or to a heading that is not there."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, what it loads from elsewhere, and the places that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def has(self, anchor: str) -> bool:
        """Tell whether there is such a place; the page itself has no name."""
        return not anchor or anchor in self.anchors

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        for name in ("id", "name"):
            if name in given:
                self.anchors.add(given[name])
        for name in ("href", "src"):
            if name in given:
                self.targets.append(given[name])
        is_style = tag == "link" and given.get("rel") == "stylesheet"
        for loaded in (given.get("src"), given.get("href") if is_style else None):
            if loaded and urlsplit(loaded).netloc:
                self.loaded.append(loaded)


def broken(folder: Path) -> list[str]:
    """List the links of all pages of a folder that lead nowhere, and what is loaded from elsewhere.

    Links to other sites are not followed.
    """
    pages = {path: Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are absolute: it is shown in the place of any page
        found += [f"{path.relative_to(folder)}: loads {loaded}" for loaded in page.loaded]
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not goal.exists():
                found.append(f"{path.relative_to(folder)}: {target}")
            elif goal in pages and not pages[goal].has(unquote(parts.fragment)):
                found.append(f"{path.relative_to(folder)}: {target}: no such heading")
    return sorted(set(found))
