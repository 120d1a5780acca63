# SPDX-License-Identifier: BSD-2-Clause
"""What long commands show on stderr while they run: a live line with a bar on a terminal, elsewhere a line for each finished step."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

#: How the user has called the program, if not by its name alone: for commands that messages tell the user to type.
PROGRAM_VARIABLE = "GNT_VCLUSTER"


def program() -> str:
    return os.environ.get(PROGRAM_VARIABLE, "gnt-vcluster")


def counted(number: int, what: str) -> str:
    """Return the number with the word, which gets an s unless it is one: 1 node, 2 nodes."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class Progress:
    """Shows the steps of a long command; with `quiet`, nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Show a line of information."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def step(self, text: str, total: int = 0) -> Iterator[Callable[..., None]]:
        """Show a step while it runs. Yields a function to call for each of `total` parts that is done."""
        begin = time.monotonic()
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = [SpinnerColumn(), TextColumn("{task.description}"),
                       *([BarColumn(bar_width=20), MofNCompleteColumn()] if total else []), TimeElapsedColumn()]  # fmt: skip
            with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task(text, total=total or None)
                yield lambda *_: bar.advance(task)
        else:
            yield lambda *_: None
        self.say(f"{text} ({time.monotonic() - begin:.1f} s)")
