"""What the page says around its tables."""

HEAD = """\
## Compared with the peers

![multiples of task, logarithmic](performance.svg)

The measure is `task`: a dispatch loop in plain asyncio, written by hand, with `loop.create_task`
for every step. `inline` awaits each step where it stands. The first column is `task`'s own time;
the others are multiples of it, lower is better. Every engine runs in a process of its own; for each
workload the engines take turns, and a multiple is the median of {rounds} rounds, each divided by
`task`'s time of the same round (one round where a measure takes more than five seconds). A
bracketed number is explained under “No figure, and why”."""

CLIENTS_NOTE = """\
W8: 200 tasks on one loop, each starting a run as soon as its last one ended, for two seconds. The
p99 is that of a run as its client sees it; the heartbeat is a task on the same loop that sleeps
5 ms at a time. An engine that never hands the loop over while a run goes on serves one client at a
time: its p99 is small, its heartbeat late and its share of clients served low, so these rows belong
together."""

VALUES_NOTE = """\
The floor is what the same loop of closure calls takes with a plain dict (numbers, strings, bytes),
orjson `dumps` / `loads` (dicts) and pickle (the pydantic model). LlamaIndex's calls are awaited and
keep a reference to the object, so their time does not depend on its size."""

MEMORY_NOTE = """\
Growth of the resident memory, divided by the number of runs: while all of them wait, and after all
have ended. `task` is a bare asyncio task that awaits a future. LlamaIndex and treadle wait by
`ctx.wait_for_event`, sayiir by a signal; where an engine has no such call its step awaits a
future."""

IMPORT_NOTE = """\
Milliseconds that the import adds to an empty program, and to one that has imported asyncio."""

REPEAT = """\
To repeat: `make bench-peers`, or in an environment with `benches/python/peers/requirements.txt` and
treadle installed, `python benches/python/compare_peers.py --write docs/performance.md`."""
