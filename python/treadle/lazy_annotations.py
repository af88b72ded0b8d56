"""Annotations of classes and functions, of which some may name what is not defined yet."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def annotations_of(owner: "Any") -> "dict[str, Any]":
    """Return the annotations of a class, without those of its bases, or of a function.

    From Python 3.14 on annotations are evaluated when they are asked for (PEP 649). A name that is
    not defined then is an `annotationlib.ForwardRef` in the result, instead of a `NameError`.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return get_annotations(owner, format=Format.FORWARDREF)
    if isinstance(owner, type):
        # As `inspect.get_annotations`, whose import would take longer than the rest of treadle's.
        return dict(owner.__dict__.get("__annotations__") or {})  # noqa: RUF063
    return dict(getattr(owner, "__annotations__", None) or {})
