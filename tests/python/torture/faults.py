"""What may happen to processes, to a PostgreSQL server, and to what is between them."""

import os
import random
import signal
import subprocess
import time

from postgres_server import Server, query

from .harness import SECONDS, Journal, kill, over, start
from .promises import Line
from .proxy import Proxy

AT_ONCE = 2
LEASE = 6.0
BACKENDS = "FROM pg_stat_activity WHERE application_name = 'treadle' ORDER BY random() LIMIT 1"
# How often each fault is drawn.
WEIGHTS = {
    "kill a worker": 5,
    "end a backend": 5,
    "kill a backend": 1,
    "shut down at once": 1,
    "kill the server": 1,
    "cut before a statement": 6,
    "cut after a statement": 6,
    "swallow an answer": 3,
    "freeze a worker": 1,
}


class Faults:
    """Processes on one journal, and the faults that befall them."""

    def __init__(self, journal: Journal, server: Server, proxy: Proxy, seed: int) -> None:
        self._journal, self._server, self._proxy = journal, server, proxy
        self._chance = random.Random(seed)
        self._started = 0
        self._living: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._frozen: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.counts: dict[str, int] = dict.fromkeys(WEIGHTS, 0)

    def befall(self, number: int) -> None:
        """Have so many faults."""
        names, weights = zip(*WEIGHTS.items(), strict=True)
        for fault in self._chance.choices(names, weights, k=number):
            self._fill_up()
            time.sleep(self._chance.uniform(0.02, 0.2))
            self._carry_out(fault)
            self.counts[fault] += 1

    def _fill_up(self) -> None:
        for name, process in list(self._living):
            if process.poll() is not None:
                self._living.remove((name, process))
                code, errors = over(self._journal, name, process)
                # One that could not renew in time is told that its runs go on elsewhere.
                assert code == 0 or "lease was lost" in errors, errors[-3000:]
        while len(self._living) < AT_ONCE:
            self._started += 1
            name = f"p{self._started}"
            process = start(self._journal.task(name, lease=LEASE, runs=30, bulk=3000))
            self._living.append((name, process))
            self._wait_until_open(name, process)

    def _wait_until_open(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + SECONDS
        while (name, "opened") not in {(it.by, it.word) for it in self._journal.log.lines()}:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                said = process.communicate()[1].decode()
                raise AssertionError(f"{name} does not open: {process.returncode}, {said[-3000:]}")
            time.sleep(0.01)

    def _carry_out(self, fault: str) -> None:
        match fault:
            case "kill a worker":
                kill(self._journal, *self._living.pop(0))
            case "end a backend":
                query(self._server.url, f"SELECT pg_terminate_backend(pid) {BACKENDS}")
            case "kill a backend":
                for pid in query(self._server.url, f"SELECT pid {BACKENDS}"):
                    os.kill(int(pid), signal.SIGKILL)
                self._wait_for_server()
            case "shut down at once":
                self._server.restart(signal.SIGQUIT)
            case "kill the server":
                self._server.restart(signal.SIGKILL)
            case "cut before a statement":
                self._proxy.fault("before")
            case "cut after a statement":
                self._proxy.fault("after")
            case "swallow an answer":
                self._proxy.fault("swallow")
            case "freeze a worker":
                name, process = self._living.pop()
                if process.poll() is None:
                    self._journal.log("killing", name)
                    process.send_signal(signal.SIGSTOP)
                self._frozen.append((name, process))

    def _wait_for_server(self) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            try:
                query(self._server.url, "SELECT 1")
            except AssertionError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the server did not come back")

    def end(self) -> None:
        """Let the frozen go on as zombies, then kill all that is left."""
        if self._frozen:
            time.sleep(LEASE + 1)
        for _, process in self._frozen:
            process.send_signal(signal.SIGCONT)
        time.sleep(1.0 if self._frozen else 0.0)
        for name, process in [*self._frozen, *self._living]:
            process.kill()
            over(self._journal, name, process)

    def judged(self) -> list[Line]:
        """The log without what zombies began: their bodies run, and nothing of it is written."""
        zombies = {name for name, _ in self._frozen}
        begun = ("begins", "raises")
        lines: list[Line] = []
        gone: set[str] = set()
        for line in self._journal.log.lines():
            if line.word == "killing" and line.rest[0] in zombies:
                gone.add(line.rest[0])
            if not (line.by in gone and line.word in begun):
                lines.append(line)
        return lines
