"""The process between Remediator and a command: it ends the command's whole group when its parent goes away.

Runs as a script of its own (``python -I -S _guardian.py STATUS_FD GRACE ARGV…``) and imports nothing but the
standard library. Standard input is the lifeline: when it reaches its end, because Remediator closed it or was
killed, the group gets SIGTERM and, GRACE seconds later, SIGKILL. How the command ended is written to STATUS_FD
as ``exit N``, ``signal N`` or ``spawn ERRNO``.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress


def _kill(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _watch(child: int, wake: int, grace: float) -> None:
    """Return when the command has ended; end it when the lifeline does."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(wake, select.POLLIN)
    kill_at: float | None = None
    # WNOWAIT leaves the dead child in the table, so that nobody else can get its group's number meanwhile.
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        left = None if kill_at is None else max(0.0, kill_at - time.monotonic()) * 1000
        ready = [descriptor for descriptor, _ in poll.poll(left)]
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready and not os.read(0, 4096):
            poll.unregister(0)
            kill_at = time.monotonic() + grace
            _kill(child, signal.SIGTERM)
            _kill(child, signal.SIGCONT)
        if kill_at is not None and time.monotonic() >= kill_at:
            _kill(child, signal.SIGKILL)
            kill_at = time.monotonic() + grace


def main(status: int, grace: float, argv: list[str]) -> None:
    """Run ``argv`` in a process group of its own and report how it ended."""
    os.set_inheritable(status, False)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    # Only the lifeline ends the command; a handler, unlike SIG_IGN, is not inherited by it.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        child = os.posix_spawnp(
            argv[0],
            argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setpgroup=0,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        os.write(status, f"spawn {error.errno}".encode())
        return
    _watch(child, wake, grace)
    _kill(child, signal.SIGKILL)  # Whatever of the group outlived the command acts without a licence.
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(status, (f"exit {code}" if code >= 0 else f"signal {-code}").encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
