"""Changed snapshots: none is accepted with changed content, none imports or unpickles."""

import os
import subprocess
import sys
from pathlib import Path

# How many; a million take a minute.
MUTANTS = int(os.environ.get("MUTANTS", "100000"))

ATTACK = """
import asyncio, random, resource, sys, time
from snapshot_workflow import APPROVALS, everything
from treadle import SnapshotError, StartEvent, StopEvent, UnsignedValue, Workflow, Context, step

SECRET = "a secret of the tests"
watched = []
is_watching = False
def audit(event, arguments):
    if is_watching and event in ("import", "pickle.find_class", "exec", "compile", "open"):
        watched.append((event, arguments))
sys.addaudithook(audit)

@step
async def hold(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.set("n", 1)
    ctx.set("list", [1, 2, {"a": None}])
    ctx.set("bytes", b"x" * 50)
    await ctx.sleep(3600)
    return StopEvent()
plain = Workflow("plain", [hold])

async def take(workflow, secret, **fields):
    run = workflow.run(**fields)
    awaiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    snapshot = await run.snapshot(secret=secret)
    awaiting.cancel()
    return snapshot

def mutate(chance, snapshot, others):
    mutant = bytearray(snapshot)
    kind = chance.randrange(9)
    at = chance.randrange(len(mutant))
    if kind == 0:
        mutant[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        mutant[at] = chance.randrange(256)
    elif kind == 2:
        del mutant[at : at + chance.randint(1, 8)]
    elif kind == 3:
        mutant[at:at] = chance.randbytes(chance.randint(1, 8))
    elif kind == 4:
        del mutant[at:]
    elif kind == 5:
        mutant += chance.choice(others)[: chance.randint(1, 400)]
    elif kind == 6:
        other = chance.choice(others)
        start = chance.randrange(len(other))
        part = other[start : start + chance.randint(1, 200)]
        mutant[at : at + len(part)] = part
    elif kind == 7:
        end = min(len(mutant), at + chance.randint(1, 60))
        to = chance.randrange(len(mutant))
        mutant[to : to + end - at] = mutant[at:end]
    else:
        mutant[chance.randrange(min(24, len(mutant)))] = chance.randrange(256)
    return bytes(mutant)

async def main(count):
    global is_watching
    chance = random.Random(7)
    signed = [await take(everything, SECRET, pages=n) for n in (1, 2, 3)]
    unsigned = [await take(plain, None, n=n) for n in (1, 2)]
    cases = [(everything, s, SECRET) for s in signed] + [(plain, s, None) for s in unsigned]
    for workflow, snapshot, secret in cases:
        assert workflow.check(snapshot, secret=secret) == []
    def resident():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before, slowest, refused = resident(), 0.0, 0
    for _ in range(count):
        workflow, snapshot, secret = chance.choice(cases)
        others = signed if secret else unsigned
        mutant = mutate(chance, snapshot, others)
        if mutant == snapshot:
            continue
        classes = workflow._classes()
        begin = time.perf_counter()
        is_watching = True
        try:
            workflow._plan.resume(mutant, [secret.encode()] if secret else [], classes)
        except (SnapshotError, UnsignedValue):
            refused += 1
        else:
            is_watching = False
            if mutant not in (*signed, *unsigned):
                raise AssertionError(f"accepted: {mutant!r}")
        is_watching = False
        slowest = max(slowest, time.perf_counter() - begin)
    errors = {"treadle.exceptions"}
    strange = [w for w in watched if not (w[0] == "import" and w[1][0] in errors)]
    assert not strange, strange[:5]
    grown = (resident() - before) // 1024
    assert slowest < 1 and grown < 64, (slowest, grown)
    print(f"{refused} mutants refused, the slowest in {slowest * 1000:.1f} ms, {grown} MiB grown")

asyncio.run(main(int(sys.argv[1])))
"""


def test_no_mutant_is_accepted_imports_or_unpickles():
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", ATTACK, str(MUTANTS)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=50 if MUTANTS <= 200_000 else 1000,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    assert "mutants refused" in done.stdout
