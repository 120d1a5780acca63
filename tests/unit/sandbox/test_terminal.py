# SPDX-License-Identifier: BSD-2-Clause
"""A command behind a terminal of its own, as a user in front of a terminal sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

#: The user's process: it runs a command, and says how that ended and what else was typed.
USER = """
import os, select, sys, tty
from ganeti_vc.sandbox import terminal
print("outside", os.ttyname(0), flush=True)
screen = os.dup(1)
if sys.argv[2:]:
    [os.dup2(os.open(os.devnull, os.O_RDWR), int(fd)) for fd in sys.argv[2:]]
status = terminal.run_and_return(["/usr/bin/python3", "-c", sys.argv[1]])
typed = os.read(screen, 100) if select.select([screen], [], [], 0.2)[0] else b""
os.write(screen, f"ended {status} {typed} echo {bool(tty.tcgetattr(screen)[3] & tty.ECHO)}.".encode())
"""


class Terminal:
    """A terminal with the user's process in it."""

    def __init__(self, command: str, *to_null: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PYTHONPATH"] = ":".join(sys.path)
            os.execv(sys.executable, [sys.executable, "-c", USER, command, *to_null])
        self.said = ""

    def until(self, word: str) -> str:
        """Return what has been said up to this word."""
        deadline = time.monotonic() + 20
        while word not in self.said:
            assert select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0], self.said
            self.said += os.read(self.fd, 4096).decode().replace("\r", "")
        before, _, self.said = self.said.partition(word)
        return before

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


Start = Callable[..., Terminal]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[Terminal] = []

    def begin(command: str, *to_null: str) -> Terminal:
        made.append(Terminal(command, *to_null))
        return made[-1]

    yield begin
    for terminal in made:
        os.kill(terminal.pid, signal.SIGKILL)
        os.waitpid(terminal.pid, 0)
        os.close(terminal.fd)


INJECT = """
import fcntl, os, termios
print("inside", os.ttyname(0), flush=True)
for fd in (0, 1, 2, os.open("/dev/tty", os.O_RDWR)):
    for char in b"injected":
        try:
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([char]))
        except OSError:
            pass  # this kernel lets nobody
"""


def test_what_is_inside_types_into_a_terminal_of_its_own(start: Start) -> None:
    terminal = start(INJECT)
    terminal.until("outside ")
    outside = terminal.until("\n")
    terminal.until("inside ")
    assert terminal.until("\n") != outside
    terminal.until("ended 0 ")
    assert terminal.until(" echo") == "b''", "what it typed has come to its user"
    assert terminal.until(".") == " True"


TALK = """
import os, signal, sys, time
# Not by print, in which the signal may find this program.
signal.signal(signal.SIGWINCH, lambda *_: os.write(1, f"size {os.get_terminal_size()}\\n".encode()))
print("size", os.get_terminal_size(), flush=True)
try:
    print("got", input(), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("x" * 200000 + "interrupted", flush=True)
sys.exit(42)
"""


def test_size_keys_output_and_status_pass_through(start: Start) -> None:
    terminal = start(TALK)
    terminal.until("size")
    terminal.resize(31, 97)
    terminal.until("size os.terminal_size(columns=97, lines=31)")
    terminal.type("hello\n")
    terminal.until("got hello")
    terminal.type("\x03")
    assert terminal.until("interrupted").count("x") == 200000
    assert terminal.until(".").strip() == "ended 42 b'' echo True"


def test_signals_end_it(start: Start) -> None:
    terminal = start("import os, time; print('pid', os.getppid(), '.', flush=True); time.sleep(60)")
    terminal.until("pid ")
    os.kill(int(terminal.until(" .")), signal.SIGTERM)  # the process that copies
    terminal.until("ended 143 ")


def test_without_a_terminal_among_its_files_it_reaches_none(start: Start) -> None:
    look = "import os\ntry: os.open('/dev/tty', os.O_RDWR)\nexcept OSError: os._exit(7)"
    start(look, "0", "1", "2").until("ended 7 ")


def test_in_a_pipeline_it_leaves_the_keyboard_to_others(start: Start) -> None:
    terminal = start("import os, sys; sys.exit(9 if sys.stdin.read() == '' and os.isatty(2) else 1)", "1")
    terminal.type("q")
    terminal.until("ended 9 ")
