#!/usr/bin/env python3
"""A PostgreSQL server for tests; `tests/python/postgres_server.py COMMAND…` has one for a command.

The server of TREADLE_TEST_POSTGRES is taken if there is one. Otherwise one is started from
installed programs, on a free port and with its files in a temporary directory, and stopped at the
end.
"""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

VARIABLE = "TREADLE_TEST_POSTGRES"
MISSING = (
    f"no PostgreSQL: set {VARIABLE}=postgresql://USER@HOST/DATABASE, or install a server "
    "(Debian: apt-get install postgresql; macOS: brew install postgresql)"
)
PATIENCE = 60.0


class NoServer(Exception):
    """There is no server, and none can be started."""


class Server:
    """A server of our own, whose files are in a temporary directory."""

    def __init__(self, *settings: str) -> None:
        self._programs = programs()
        self.directory = Path(tempfile.mkdtemp(prefix="treadle-postgres-"))
        self.port = free_port()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        # PostgreSQL does not start as root.
        self._user = pwd.getpwnam(_other_user()) if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        self._data = self.directory / "data"
        self._make_data()
        self.start()

    def _make_data(self) -> None:
        self.program("initdb", "-D", self._data, "-U", "treadle", "-A", "trust", "-E", "UTF8", "-N")

    def program(self, name: str, *arguments: object) -> None:
        """Carry out a program of the server as the user that the server runs as."""
        done = subprocess.run(
            [self._programs / name, *map(str, arguments)],
            capture_output=True,
            text=True,
            preexec_fn=self._as_other_user(),
            cwd=self.directory,
        )
        if done.returncode:
            raise NoServer(f"{name}: {done.stderr.strip()}")

    def file(self, name: str, content: str) -> Path:
        """Write a file that only the server may read; return where it is."""
        path = self.directory / name
        path.write_text(content)
        path.chmod(0o600)
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return path

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://treadle@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process of the server itself."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self.directory}"]
        arguments = [part for setting in [*settings, *self._settings] for part in ("-c", setting)]
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port), *arguments],
                stdout=log,
                stderr=log,
                preexec_fn=self._as_other_user(),
                cwd=self.directory,
            )
        began = time.monotonic()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - began > PATIENCE:
                log = (self.directory / "log").read_text()[-2000:]
                raise NoServer(f"the server did not start: {log}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT in order, SIGQUIT at once as in a crash, SIGKILL without a word."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(PATIENCE)
        self._process = None
        if how == signal.SIGKILL:
            self._wait_for_children()

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it and start it again."""
        self.stop(how)
        self.start()

    def remove(self) -> None:
        """End it and remove its files."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready).returncode == 0

    # What is left of a killed server has its shared memory for a moment.
    def _wait_for_children(self) -> None:
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE:
            with contextlib.suppress(NoServer):
                self.start()
                self.stop()
                return
            time.sleep(0.1)

    def _as_other_user(self) -> Callable[[], None]:
        user = self._user

        def become() -> None:
            if user is not None:
                os.setgroups([])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)

        return become


class Replica(Server):
    """A server that follows another one, until it is promoted."""

    def __init__(self, primary: Server, *settings: str) -> None:
        self._primary = primary
        super().__init__(*settings)

    def _make_data(self) -> None:
        self.program("pg_basebackup", "-d", self._primary.url, "-D", self._data, "-R", "-N")

    def promote(self) -> None:
        """Let it be written; it follows nothing any more."""
        self.program("pg_ctl", "promote", "-D", self._data, "-w")


class Bouncer:
    """A pgbouncer in transaction mode before a server."""

    def __init__(self, server: Server) -> None:
        found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if found is None:
            raise NoServer("no pgbouncer: install it (Debian: apt-get install pgbouncer)")
        self._program, self._server = found, server
        self.port = free_port()
        lines = [
            "[databases]",
            f"* = host=127.0.0.1 port={server.port}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "pool_mode = transaction",
            "auth_type = any",
            "default_pool_size = 4",
        ]
        # Whatever user the client names, the server knows this one.
        lines[1] += " user=treadle"
        self._settings = server.file("pgbouncer.ini", "\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"postgresql://treadle@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._process = subprocess.Popen(
            [self._program, "-q", str(self._settings)], preexec_fn=self._server._as_other_user()
        )
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if self._process.poll() is not None or time.monotonic() > until:
                raise NoServer("pgbouncer did not start")
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it: every connection over it is cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None


def programs() -> Path:
    """The directory of the newest installed server."""
    places = [Path(path) for path in glob.glob("/usr/lib/postgresql/*/bin")]
    places.sort(
        key=lambda place: [
            int(part) if part.isdigit() else 0 for part in place.parent.name.split(".")
        ]
    )
    config = shutil.which("pg_config")
    if config:
        found = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        places.insert(0, Path(found.stdout.strip()))
    places += [Path(path) for path in glob.glob("/opt/homebrew/opt/postgresql*/bin")]
    for place in reversed(places):
        if all((place / name).exists() for name in ("initdb", "postgres", "pg_isready", "psql")):
            return place
    raise NoServer(MISSING)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def url() -> Iterator[str]:
    """The URL of a server, which is there as long as this is entered."""
    given = os.environ.get(VARIABLE)
    if given:
        yield given
        return
    # What is safe on disk is no concern of the tests that share it.
    server = Server("fsync=off", "max_connections=200")
    try:
        yield server.url
    finally:
        server.remove()


def query(url: str, command: str) -> list[str]:
    """Carry out a command; return the rows as `psql` shows them."""
    psql = [
        programs() / "psql",
        "-X",
        "-A",
        "-t",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        url,
        "-c",
        command,
    ]
    done = subprocess.run(psql, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _other_user() -> str:
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def main(command: list[str]) -> int:
    if not command:
        print(__doc__)
        return 2
    # The server is removed whatever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with url() as place:
            return subprocess.run(command, env={**os.environ, VARIABLE: place}).returncode
    except NoServer as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
