"""The examples and the demo do what they say."""

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import uvicorn

import treadle

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SECONDS = 30


def run_python(
    *arguments: str | Path, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=cwd,
    )


def output_of(*arguments: str | Path) -> str:
    finished = run_python(*arguments)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here() -> None:
    tested = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*examples.py"))
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.stem}' in tested, example.name


def test_hello_greets() -> None:
    assert output_of(EXAMPLES / "hello.py") == "HELLO, ADA! (to Ada)\n"


def test_fan_out_joins_every_page() -> None:
    lines = output_of(EXAMPLES / "fan_out.py").splitlines()
    assert lines[0].split() == ["/", "900"]
    assert lines[-1] == "6 pages, 5,430 bytes"


def test_progress_draws_a_bar_that_gets_full() -> None:
    finished = subprocess.run(
        [sys.executable, EXAMPLES / "progress.py"], capture_output=True, timeout=SECONDS, check=True
    )
    assert finished.stdout.count(b"\r[") == 40
    assert finished.stdout.endswith(b"\r[" + b"#" * 30 + b"] 40/40\ncopied 40 parts\n")


def test_a_process_that_is_killed_pays_once() -> None:
    assert output_of(EXAMPLES / "pays_once.py").splitlines() == [
        "the first process was killed (9) after 3 calls",
        "5 answers",
        "5 calls paid",
    ]


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[httpx.AsyncClient]:
    """A real server on a free port of the loopback, and a client of it."""
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", ws="none")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    serve = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(SECONDS):
            while not server.started:
                await asyncio.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", timeout=SECONDS, trust_env=False
        ) as client:
            yield client
    finally:
        server.should_exit = True
        async with asyncio.timeout(SECONDS):
            await serve


async def messages(answer: httpx.Response) -> AsyncIterator[tuple[str, dict[str, object]]]:
    event = ""
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)


async def test_the_service_streams_a_run_to_its_result() -> None:
    service = load("fastapi_sse")
    async with serving(service.app) as client, client.stream("GET", "/crawl?pages=5") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        received = [message async for message in messages(answer)]
    kinds = [kind for kind, _ in received]
    assert kinds == ["started", *["fetched"] * 5, "result"]
    assert sorted(data["number"] for _, data in received[1:-1]) == [0, 1, 2, 3, 4]  # type: ignore[type-var]
    assert received[-1][1] == {"pages": 5}


async def test_the_service_serves_many_clients_at_once() -> None:
    service = load("fastapi_sse")
    async with serving(service.app) as client:

        async def crawl(pages: int) -> str:
            return (await client.get(f"/crawl?pages={pages}")).text

        answers = await asyncio.gather(*(crawl(pages) for pages in range(1, 21)))
        for pages, answer in enumerate(answers, start=1):
            assert answer.count("event: fetched\n") == pages
            assert f'{{"pages": {pages}}}' in answer


async def test_a_client_that_goes_away_stops_the_work() -> None:
    service = load("fastapi_sse")
    async with serving(service.app) as client:
        async with client.stream("GET", "/crawl?pages=10000&delay=0.02") as answer:
            async for kind, _ in messages(answer):
                if kind == "fetched":
                    break
            (run,) = service.runs.values()
            assert run.status == "running"
            assert (await client.get("/runs")).json() == {run.id: "running"}
        async with asyncio.timeout(SECONDS):
            while run.status == "running":
                await asyncio.sleep(0.01)
        assert run.status == "cancelled"
        assert (await client.get("/runs")).json() == {}


async def test_the_service_refuses_a_senseless_request() -> None:
    service = load("fastapi_sse")
    async with serving(service.app) as client:
        assert (await client.get("/crawl?pages=0")).status_code == 422
        assert service.runs == {}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Good files, and whatever else may be found in a tree."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "large.py").write_text(
        "import os\nimport sys.path\n\n\ndef f():\n    pass\n"
    )
    (tmp_path / "package" / "small.py").write_text("class A:\n    def m(self): pass\n\nimport os")
    (tmp_path / "old.py").write_text("print 'hello'\n")
    (tmp_path / "zeros.py").write_bytes(b"\0\0")
    (tmp_path / "deep.py").write_text("-" * 200_000 + "1")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "gone.py").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "notes.txt").write_text("not a module")
    (tmp_path / os.fsdecode(b"\xff\x1b[31m.py")).write_text("import os\n")
    return tmp_path


@pytest.mark.parametrize(
    "command", [["-m", "treadle", "demo"], [EXAMPLES / "demo.py"]], ids=["module", "file"]
)
def test_the_demo_measures_a_tree_and_lists_what_it_cannot(command: list[str], tree: Path) -> None:
    output = output_of(*command, "--path", tree, "--concurrency", "3")
    assert re.search(r"package/large.py +6 +1 +0  f \(2\)", output)
    assert re.search(r"package/small.py +4 +1 +1  m \(1\)", output)
    assert re.search(r"^  os +3$", output, re.MULTILINE)
    skipped = output.partition("Skipped")[2].partition("Totals")[0]
    for name in ("old.py", "zeros.py", "deep.py", "gone.py", "pipe.py"):
        assert name in skipped
    assert "folder.py" not in output
    assert "notes.txt" not in output
    assert "\x1b" not in output
    assert "3 modules of 0.0 MB, 5 skipped\n  11 lines, 2 functions, 1 classes" in output
    assert "8 of 8 files" in output
    assert re.search(
        r"Run [0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n", output
    )
    # find, then load and report for each of the 8, and measure for the 6 that could be read.
    assert re.search(r"  23 steps in \d+\.\d\d s: [\d,]+ steps per second\n$", output)


def test_the_demo_takes_an_empty_tree(tmp_path: Path) -> None:
    assert "0 modules" in output_of("-m", "treadle", "demo", "--path", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--path", "/does/not/exist"], "/does/not/exist: not a directory"),
        (["demo", "--concurrency", "0"], "argument --concurrency"),
        (["demo", "--concurrency", "many"], "argument --concurrency"),
        (["dmeo"], "invalid choice: 'dmeo'"),
    ],
)
def test_wrong_use_of_the_command_line_exits_with_2(arguments: list[str], message: str) -> None:
    finished = run_python("-m", "treadle", *arguments)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_command_line_tells_its_version_and_its_commands() -> None:
    assert output_of("-m", "treadle", "--version") == f"treadle {treadle.__version__}\n"
    assert "demo" in output_of("-m", "treadle", "--help")
    finished = run_python("-m", "treadle")
    assert finished.returncode == 2
    assert "demo" in finished.stdout
