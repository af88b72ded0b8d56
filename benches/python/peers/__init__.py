"""The engines of the comparison, one module each, with the shape of `interface.Engine`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """How an engine is named in the tables, installed and imported."""

    label: str
    package: str | None = None  # the distribution; None for what is written here
    module: str | None = None  # what a user imports first


ENGINES: dict[str, Peer] = {
    "asyncio_tasks": Peer("task"),
    "asyncio_inline": Peer("inline"),
    "sayiir": Peer("sayiir", "sayiir", "sayiir"),
    "burr": Peer("Burr", "apache-burr", "burr.core"),
    "pydantic_graph": Peer("pydantic-graph", "pydantic-graph", "pydantic_graph"),
    "blazen": Peer("Blazen", "blazen", "blazen"),
    "langgraph": Peer("LangGraph", "langgraph", "langgraph.graph"),
    "llamaindex": Peer("LlamaIndex", "llama-index-workflows", "workflows"),
    "treadle_engine": Peer("treadle", "treadle", "treadle"),
}
"""By module name, in the order of the columns; the first is the measure."""
