# SPDX-License-Identifier: BSD-2-Clause
"""The ways to fail. cli/main.py turns each into one line and an exit status."""

from __future__ import annotations


class VclusterError(Exception):
    """Something is wrong that the user can act on.

    `message` says what is wrong and names the thing; `hint` says what to do about it.
    """

    exit_status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class CannotRun(VclusterError):
    """A command that the user gave cannot be run. The exit status is the one a shell would give."""

    def __init__(self, node: str, command: str, reason: OSError) -> None:
        super().__init__(f"{node}: cannot run {command}: {reason.strerror}")
        self.exit_status = 127 if isinstance(reason, FileNotFoundError) else 126


class UsageError(VclusterError):
    """The command line itself is wrong."""

    exit_status = 2


class ConfigError(VclusterError):
    """A configuration file, or an option that stands for one of its keys, is wrong."""

    def __init__(self, message: str, hint: str = "", key: str = "") -> None:
        """`key` is the key that is wrong, without its section; empty where it is none or several."""
        super().__init__(message, hint)
        self.key = key


class StepFailed(VclusterError):
    """A step was begun and failed. The same command may be repeated."""
