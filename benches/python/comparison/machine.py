"""What a reader needs to know of the machine and the versions behind the figures."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from peers import ENGINES


def describe(engines: list[str]) -> dict[str, str]:
    """Processor, system, interpreter, and the version of each engine and floor, by label."""
    facts = {
        "Processor": f"{_processor()}, {os.cpu_count()} cores",
        "System": f"{platform.system()} {platform.machine()}, {'-'.join(platform.libc_ver())}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Event loop": "asyncio's own",
    }
    for engine in engines:
        if package := ENGINES[engine].package:
            facts[package] = _version(package)
    for package in ("orjson", "pydantic"):
        facts[package] = _version(package)
    if preloaded := os.environ.get("LD_PRELOAD"):
        facts["Preloaded"] = os.path.basename(preloaded)
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    if sys.platform.startswith("linux"):
        with open("/proc/cpuinfo") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"
