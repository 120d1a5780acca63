# SPDX-License-Identifier: BSD-2-Clause
"""A command in a sandbox, and the caller's terminal.

A process can type into its controlling terminal (TIOCSTI in ioctl_tty(2)), and root of a machine into any. So no process
in a sandbox gets the caller's: it has a pseudo-terminal of its own in its place, and this process copies between the two.
Without a terminal the command gets the caller's pipes and files as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

#: Bytes copied at a time.
CHUNK = 65536
#: Reads after the end of a command, whose background processes may write for ever.
LAST_READS = 16


def run(line: list[str]) -> int:
    """Run a command line (life.command) to its end, and return its exit status. Without a terminal, become it."""
    sys.stdout.flush()
    sys.stderr.flush()
    terminals = _terminals()
    if terminals:
        return _run_behind_another(line, terminals)
    _leave_terminal()
    os.execvp(line[0], line)


def run_and_return(line: list[str]) -> int:
    """Run a command line to its end, and return its exit status."""
    pid = os.fork()
    if pid == 0:
        with _ending_here():
            os._exit(run(line))
    return _status(pid)


def _terminals() -> list[int]:
    """Return which of the standard files are terminals.

    Where the output goes to a pipe, the program behind it may read the keyboard, as pagers do. Then the command does not.
    """
    if os.isatty(0) and not os.isatty(1):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    return [fd for fd in (0, 1, 2) if os.isatty(fd)]


@contextlib.contextmanager
def _ending_here() -> Iterator[None]:
    """End a forked process, whatever happens in it."""
    try:
        yield
    except OSError as err:
        print(err, file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _leave_terminal() -> None:
    """Give up the controlling terminal, which is none of the standard files. Signals from the keyboard still come."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return  # there is none
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it comes if this process leads its session
    fcntl.ioctl(fd, termios.TIOCNOTTY)
    signal.signal(signal.SIGHUP, before)
    os.close(fd)


def _status(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _copy_size(source: int, target: int) -> None:
    fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8)))


def _run_behind_another(line: list[str], terminals: Sequence[int]) -> int:
    """Run the command with another terminal in the place of ours."""
    ours = 1 if 1 in terminals else 2
    # In the background this process would be stopped when it reads.
    typing = 0 in terminals and os.tcgetpgrp(0) == os.getpgrp()
    master, slave = os.openpty()
    _copy_size(ours, slave)
    theirs = termios.tcgetattr(ours)
    if not typing:
        theirs[1] &= ~termios.OPOST  # ours does that
    termios.tcsetattr(slave, termios.TCSANOW, theirs)
    pid = os.fork()
    if pid == 0:
        with _ending_here():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in terminals:
                os.dup2(slave, fd)
            os.execvp(line[0], line)
    os.close(slave)
    try:
        with _signals_passed_on(pid, ours, master), _raw() if typing else contextlib.nullcontext():
            _copy(pid, master, ours, typing)
    finally:
        os.close(master)
    return _status(pid)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Have each key come through as it is."""
    attributes = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # it was hung up
            termios.tcsetattr(0, termios.TCSADRAIN, attributes)


@contextlib.contextmanager
def _signals_passed_on(pid: int, ours: int, master: int) -> Iterator[None]:
    """Pass on what the caller's terminal, and others, tell this process."""

    def resize(*_: object) -> None:
        _copy_size(ours, master)

    def interrupt(*_: object) -> None:
        os.write(master, b"\x03")

    def pass_on(number: int, _: object) -> None:
        os.kill(pid, number)

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], object]] = {
        signal.SIGWINCH: resize, signal.SIGINT: interrupt, signal.SIGTERM: pass_on, signal.SIGHUP: pass_on,
    }  # fmt: skip
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        resize()  # it may have changed before anybody was told
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _copy(pid: int, master: int, ours: int, typing: bool) -> None:
    """Copy between the terminals until the command has ended."""
    os.set_blocking(master, False)
    typed, ended, events = b"", os.pidfd_open(pid), select.poll()
    events.register(ended, select.POLLIN)
    while True:
        events.register(master, select.POLLIN | (select.POLLOUT if typed else 0))
        if typing:
            events.register(0, 0 if typed else select.POLLIN)
        ready = dict(events.poll())
        if ready.get(0, 0) & select.POLLIN:
            typed = os.read(0, CHUNK)
            if not typed:
                typing = False
                events.unregister(0)
        if typed:
            with contextlib.suppress(BlockingIOError):
                typed = typed[os.write(master, typed) :]
        said = ready.get(master, 0) & (select.POLLIN | select.POLLHUP)
        if ended in ready or (said and not _forward(master, ours)):
            break
    os.close(ended)
    for _ in range(LAST_READS):
        if not _forward(master, ours):
            break


def _forward(master: int, ours: int) -> bool:
    """Copy what the command has written. Return False when there is nothing, or nobody has its terminal any more."""
    try:
        said = os.read(master, CHUNK)
    except OSError:  # EAGAIN, EIO
        return False
    while said:
        said = said[os.write(ours, said) :]
    return True
