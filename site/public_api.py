"""The public API, read from sources and stubs: the source of the reference and of its snapshot.

python site/public_api.py    prints every public name with its signature
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
STUB = ROOT / "python/treadle/_treadle.pyi"
MODULES = ("treadle", "treadle.testing", "treadle.ui")
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Special methods that users rely on; others are an implementation of what is listed anyway.
SPECIAL = (
    "__init__",
    "__await__",
    "__aenter__",
    "__aexit__",
    "__contains__",
    "__len__",
    "__iter__",
)


class Member(NamedTuple):
    """A method, a property or a field, with its signatures: several if it is overloaded."""

    name: str
    signatures: list[str]
    doc: str


class Public(NamedTuple):
    """A public name of a module."""

    module: str
    name: str
    signatures: list[str]
    doc: str
    members: list[Member]


def public_api() -> list[Public]:
    """Return every public name, in the order of the alphabet."""
    return [
        _public(module, name)
        for module in MODULES
        for name in sorted(_names(module), key=str.casefold)
    ]


def _names(module: str) -> list[str]:
    source = STUB.parents[1] / module.replace(".", "/") / "__init__.py"
    for part in ast.parse(source.read_text("utf-8")).body:
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(part.value)
            # Public as well, but not for `import *`: it would hide the module of that name.
            names += ["inspect"] if module == "treadle" else []
            return [name for name in names if not name.startswith("__")]
    raise LookupError(f"{source} has no __all__")


def _public(module: str, name: str) -> Public:
    found = _definitions(name)
    nodes = [node for node in found if _is_overload(node)] or found[:1]
    docs = [doc for node in found if (doc := _doc(node))]
    if isinstance(nodes[0], ast.ClassDef):
        own, bases = _bases(nodes[0])
        signature = f"class {name}({', '.join(bases)})" if bases else f"class {name}"
        members = [member for node in (nodes[0], *own) for member in _members(node)]
        return Public(module, name, [signature], docs[0] if docs else "", members)
    return Public(module, name, [_signature(node) for node in nodes], "".join(docs[:1]), [])


def _bases(node: ast.ClassDef) -> tuple[list[ast.ClassDef], list[str]]:
    """Return the private bases, whose members count as those of the class, and the others."""
    public = {name for module in MODULES for name in _names(module)}
    own, others = [], []
    for base in node.bases:
        found = [part for part in _sources() if _name(part) == ast.unparse(base)]
        if found and isinstance(found[0], ast.ClassDef) and ast.unparse(base) not in public:
            own.append(found[0])
        else:
            others.append(ast.unparse(base))
    return own, others


@cache
def _sources() -> list[ast.stmt]:
    """Return what the stub and the modules define, also for type checkers alone."""
    paths = [*sorted(STUB.parent.rglob("*.py")), STUB]
    trees = [ast.parse(path.read_text("utf-8")) for path in paths]
    return [part for tree in trees for part in _statements(tree.body)]


def _definitions(name: str) -> list[ast.stmt]:
    found = [part for part in _sources() if _name(part) == name]
    if not found:
        raise LookupError(f"no definition of {name} was found")
    return found


def _is_overload(part: ast.stmt) -> bool:
    return isinstance(part, Function) and any(
        ast.unparse(decorator) == "overload" for decorator in part.decorator_list
    )


def _members(node: ast.ClassDef) -> list[Member]:
    found: dict[str, Member] = {}
    for part in _statements(node.body):
        name = _name(part)
        if name is None or (name.startswith("_") and name not in SPECIAL):
            continue
        member = found.setdefault(name, Member(name, [], ""))
        found[name] = Member(name, [*member.signatures, _signature(part)], member.doc or _doc(part))
    return list(found.values())


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a class, with those for type checkers alone."""
    for part in body:
        if isinstance(part, ast.If):
            yield from part.body
        else:
            yield part


def _doc(part: ast.stmt) -> str:
    return (ast.get_docstring(part) or "") if isinstance(part, ast.ClassDef | Function) else ""


def _name(part: ast.stmt) -> str | None:
    if isinstance(part, ast.ClassDef | Function):
        return part.name
    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
        return part.target.id
    return None


def _signature(part: ast.stmt) -> str:
    if isinstance(part, ast.AnnAssign):
        return f"{ast.unparse(part.target)}: {_type(part.annotation)}"
    assert isinstance(part, Function)
    result = f" -> {_type(part.returns)}" if part.returns is not None else ""
    decorators = {ast.unparse(decorator) for decorator in part.decorator_list}
    if "property" in decorators:
        return f"{part.name}{result.replace(' -> ', ': ')}"
    for argument in ast.walk(part.args):
        if isinstance(argument, ast.arg) and argument.annotation is not None:
            argument.annotation = ast.Name(_type(argument.annotation))
    prefix = "async " if isinstance(part, ast.AsyncFunctionDef) else ""
    return f"{prefix}{part.name}({ast.unparse(part.args)}){result}"


def _type(annotation: ast.expr) -> str:
    """Return a type as text, without the quotes of a forward reference."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def listing() -> str:
    """Return every public name with its signature, one a line."""
    lines = []
    for public in public_api():
        lines += [f"{public.module}: {line}" for line in public.signatures]
        lines += [f"    {line}" for member in public.members for line in member.signatures]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(listing())
