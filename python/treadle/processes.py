"""Steps that run in other processes: for work that keeps a CPU busy.

A process is started when a step needs one and none is idle, at most one for each CPU, and stays for
the next step. What goes there and comes back is pickled. A step that is cancelled kills its
process: Python has no other way to stop a function.
"""

import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any

from ._treadle import Context
from .exceptions import StepProcessDied, StoredError, UnstorableValue
from .waiting import finished

# A fork of a process with threads may hold locks that nothing releases.
_spawn = multiprocessing.get_context("spawn")

_idle: list["_Process"] = []
_lock = threading.Lock()
_threads: ThreadPoolExecutor | None = None

# What a process answers.
_RESULT, _ERROR, _UNPICKLED, _UNREADABLE = range(4)
_Answer = tuple[int, Any]


def in_process(
    name: str, function: Callable[..., Any], keyword: str | None
) -> Callable[[Context, Any], Any]:
    """Run a function of an event in another process. A step that is cancelled kills that process.

    The event is given by keyword if the function wants that.
    """

    async def body(_context: Context, event: Any) -> Any:
        call = _Call(name, _pickled(name, (function, keyword), event))
        future = asyncio.get_running_loop().run_in_executor(_executor(), call.work)
        return _result(name, await finished(future, call.cancel))

    return body


def _pickled(name: str, function: Any, event: Any) -> bytes:
    try:
        return pickle.dumps((*function, event), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise UnstorableValue(
            f"step {name!r} runs in another process, and {type(event).__name__} cannot be pickled: "
            f"{error!r}"
        ) from error


def _result(name: str, answer: _Answer) -> Any:
    kind, what = answer
    if kind == _RESULT:
        return what
    if kind == _ERROR:
        raise what
    if kind == _UNPICKLED:
        raise UnstorableValue(
            f"step {name!r} runs in another process, and its result cannot be pickled: {what}"
        )
    raise UnstorableValue(
        f"step {name!r} runs in another process, which cannot unpickle the step: {what}"
    )


def _executor() -> ThreadPoolExecutor:
    """Return the threads that wait for processes. Their number bounds that of the processes."""
    global _threads
    with _lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(os.cpu_count() or 1, "treadle: process of a step")
        return _threads


class _Call:
    """One call of a step's function in a process."""

    def __init__(self, name: str, payload: bytes) -> None:
        self._name = name
        self._payload = payload
        self._process: _Process | None = None
        self._is_cancelled = False
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Kill the process that executes it. A call that has not begun never does."""
        with self._lock:
            self._is_cancelled = True
            if self._process is not None:
                self._process.kill()

    def work(self) -> _Answer:
        """Execute it, in a thread that waits for the answer."""
        if self._is_cancelled:
            return _RESULT, None
        process = _taken()
        with self._lock:
            self._process = process
            if self._is_cancelled:
                process.kill()
        is_usable = False
        try:
            answer = process.call(self._payload)
            is_usable = True
            return answer
        except (EOFError, OSError):
            raise StepProcessDied(self._name, process.end()) from None
        finally:
            # From here on a cancellation has nothing to kill: the process may have another call.
            with self._lock:
                self._process = None
                is_usable = is_usable and not self._is_cancelled
            if is_usable:
                with _lock:
                    _idle.append(process)
            else:
                process.end()


def _taken() -> "_Process":
    """Return an idle process that lives, or a new one."""
    while True:
        with _lock:
            process = _idle.pop() if _idle else None
        if process is None:
            return _Process()
        if process.is_alive():
            return process


class _Process:
    """A process that executes one call after another."""

    def __init__(self) -> None:
        self._connection, theirs = _spawn.Pipe()
        self._process = _spawn.Process(
            target=_serve, args=(theirs,), name="treadle: step", daemon=True
        )
        # Starting is not safe in two threads at once.
        with _lock:
            self._process.start()
        # The only end that stays open is that of the process: its death ends the connection.
        theirs.close()

    def is_alive(self) -> bool:
        """Whether it can be given a call."""
        return self._process.is_alive()

    def call(self, payload: bytes) -> _Answer:
        """Execute a call and wait for its answer. `EOFError` or `OSError` if the process ends."""
        self._connection.send_bytes(payload)
        kind, what = pickle.loads(self._connection.recv_bytes())
        if kind != _RESULT and kind != _ERROR:
            return kind, what
        try:
            return kind, pickle.loads(what)
        except Exception as error:
            return _UNPICKLED, repr(error)

    def kill(self) -> None:
        """Kill it, without waiting for its end."""
        self._process.kill()

    def end(self) -> int | None:
        """Kill it and wait for its end. Returns its exit code, or minus the number of a signal."""
        self._process.kill()
        self._process.join()
        return self._process.exitcode


def _serve(connection: Connection) -> None:
    """Execute calls until the connection ends. The process's main function."""
    # Ctrl-C reaches every process of a terminal; the process that called decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="treadle: parent", daemon=True).start()
    while True:
        try:
            payload = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(pickle.dumps(_answer(payload)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _answer(payload: bytes) -> _Answer:
    try:
        function, keyword, event = pickle.loads(payload)
    except Exception as error:
        return _UNREADABLE, repr(error)
    try:
        result = function(event) if keyword is None else function(**{keyword: event})
    except BaseException as error:
        return _ERROR, _pickled_error(error)
    try:
        return _RESULT, pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _UNPICKLED, repr(error)


def _pickled_error(error: BaseException) -> bytes:
    # Its traceback stays here.
    note = "In the process of the step:\n" + "".join(traceback.format_exception(error)).rstrip()
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        # It would end what awaits the step, or the program, and not the step.
        error = RuntimeError(f"a step raised {error!r}")
    for candidate in (error, StoredError(type(error).__qualname__, str(error))):
        candidate.add_note(note)
        try:
            data = pickle.dumps(candidate, pickle.HIGHEST_PROTOCOL)
            pickle.loads(data)
        except Exception:
            continue
        return data
    raise AssertionError("a StoredError can be pickled")
