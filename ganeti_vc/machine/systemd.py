# SPDX-License-Identifier: BSD-2-Clause
"""All calls to systemd: one D-Bus connection, one Manager object, text instead of bytes.

Only pystemd's bus is used: its objects introspect themselves, which is another call and an XML document for each unit.
The end of a job is known by its JobRemoved signal, which the same connection asks for before it makes the job
(org.freedesktop.systemd1(5)).
"""

from __future__ import annotations

import contextlib
import errno
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pystemd.dbusexc import DBusBaseError as DBusError
from pystemd.dbusexc import DBusNoSuchUnitError
from pystemd.dbuslib import DBus, apply_signature

from ganeti_vc.base.errors import StepFailed, VclusterError
from ganeti_vc.base.signals import uninterrupted

_DESTINATION = b"org.freedesktop.systemd1"
_PATH = b"/org/freedesktop/systemd1"
_MANAGER = b"org.freedesktop.systemd1.Manager"
#: A job that has not ended within this many seconds hangs; the units' own limits are shorter.
JOB_LIMIT = 900.0


@dataclass(frozen=True)
class Unit:
    """A line of `systemctl list-units`."""

    name: str
    load: str
    active: str
    sub: str
    path: str
    job: str  #: type of its job: start, stop, restart, ...; empty without a job


@dataclass
class Job:
    """A job systemd was asked for."""

    unit: str
    result: str = ""  #: done, failed, dependency, ..., or why systemd made no job; empty while it runs
    no_such_unit: bool = False  #: there is no job, as systemd does not know the unit

    @property
    def succeeded(self) -> bool:
        """Whether the unit is as asked for; a condition of the unit may have kept it from starting."""
        return self.result in ("done", "skipped")


class Systemd:
    """A connection to the system's manager, as a context manager. Raises VclusterError when there is none."""

    def __init__(self) -> None:
        self._bus = DBus()
        self._removed: dict[str, str] = {}
        self._callback: Callable[..., None] | None = None
        self._subscribed = False

    def __enter__(self) -> Systemd:
        try:
            self._bus.open()
        except DBusError as err:
            raise VclusterError(
                f"cannot reach systemd over D-Bus: {err}",
                "ganeti-vcluster needs a machine booted with systemd and dbus; "
                "elsewhere, make demo boots one in a container",
            ) from None
        return self

    def __exit__(self, *exc: object) -> None:
        self._bus.close()

    def call(self, method: str, signature: str = "", *args: object) -> Any:
        """Call a method of the manager. `signature` is that of its arguments on D-Bus; text is encoded."""
        raw = [_encode(arg) for arg in args]
        packed = apply_signature(signature.encode(), raw) if signature else []
        return self._bus.call_method(_DESTINATION, _PATH, _MANAGER, method.encode(), packed).body

    def reload(self) -> None:
        """Have systemd read all units again (daemon-reload)."""
        self.call("Reload")

    def list_units(self, *patterns: str) -> list[Unit]:
        """Return the loaded units whose names match one of the shell patterns."""
        rows = self._bus.call_method(
            _DESTINATION, _PATH, _MANAGER, b"ListUnitsByPatterns",
            [(ord("a"), b"s"), (-1, None), (ord("a"), b"s"), *((ord("s"), p.encode()) for p in patterns), (-1, None)],
        ).body  # fmt: skip
        return [Unit(*(row[at].decode() for at in (0, 2, 3, 4, 6, 8))) for row in rows]

    def property(self, name: str, signature: str) -> Any:
        """Return a property of the manager; text is decoded."""
        value = self._bus.get_property(_DESTINATION, _PATH, _MANAGER, name.encode(), signature.encode())
        return value.decode() if isinstance(value, bytes) else value

    def service_property(self, service: str, name: str, signature: str) -> Any:
        """Return a property of a service, which is loaded for it."""
        path = self.call("LoadUnit", "s", service)
        return self._bus.get_property(
            _DESTINATION, path, b"org.freedesktop.systemd1.Service", name.encode(), signature.encode()
        )

    def active_state(self, unit: str) -> str:
        """Return ActiveState; "inactive" for a unit that is not loaded."""
        units = self.list_units(unit)
        return units[0].active if units else "inactive"

    def _note_jobs(self) -> None:
        """Note each JobRemoved signal from now on.

        systemd sends the signals of jobs to the connection that made them, without a subscription. A subscriber gets
        every change of every unit, which costs systemd more than the units.
        """
        if self._callback:
            return

        # pystemd hangs its own data on the callback, so a bound method will not do; and it keeps no
        # reference to it, so we must.
        def removed(message: Any, error: object = None, userdata: object = None) -> None:
            message.process_reply(False)
            _, job_path, _, result = message.body
            self._removed[job_path.decode()] = result.decode()

        self._callback = removed
        self._bus.match_signal(_DESTINATION, _PATH, _MANAGER, b"JobRemoved", removed, None)

    def _process(self) -> None:
        """Process one message. Ctrl-C waits meanwhile: out of the callback its exception would come as another one."""
        with uninterrupted():
            self._bus.process()

    def _wait(self) -> None:
        """Wait for a message or a signal, a second at most."""
        try:
            self._bus.wait(1_000_000)
        except DBusError as err:
            if err.errno != -errno.EINTR:
                raise

    def jobs(
        self, method: str, units: Iterable[str], progress: Callable[[Job], None] = lambda _: None, mode: str = "replace"
    ) -> list[Job]:
        """Call StartUnit, StopUnit, RestartUnit or ReloadUnit for several units at once, and wait until all have ended.

        `mode`: what becomes of a job that the unit has already (org.freedesktop.systemd1(5), StartUnit). Raises
        StepFailed when a job hangs.
        """
        self._note_jobs()
        waiting: dict[str, Job] = {}
        done = []
        for unit in units:
            job = Job(unit)
            try:
                path = self.call(method, "ss", unit, mode)
            except DBusError as err:
                job.result = str(err)
                job.no_such_unit = isinstance(err, DBusNoSuchUnitError)
                done.append(job)
                progress(job)
            else:
                waiting[path.decode()] = job
        deadline = time.monotonic() + JOB_LIMIT
        while waiting:
            self._process()
            for path in [path for path in waiting if path in self._removed]:
                job = waiting.pop(path)
                job.result = self._removed.pop(path)
                done.append(job)
                progress(job)
            if waiting:
                if time.monotonic() > deadline:
                    raise StepFailed(
                        f"systemd does not finish with {sorted(job.unit for job in waiting.values())[0]}",
                        "look at: systemctl list-jobs",
                    )
                self._wait()
        return done

    def start(self, *units: str, progress: Callable[[Job], None] = lambda _: None) -> None:
        """Start units and wait. Raises StepFailed that names the first one that did not start."""
        for job in self.jobs("StartUnit", units, progress):
            if not job.succeeded:
                raise StepFailed(f"{job.unit} did not start: {job.result}", f"look at: systemctl status '{job.unit}'")

    def stop(self, *units: str, progress: Callable[[Job], None] = lambda _: None) -> None:
        """Stop units and wait. A unit that systemd does not know is stopped already."""
        for job in self.jobs("StopUnit", units, progress):
            if not (job.succeeded or job.no_such_unit):
                raise StepFailed(f"{job.unit} did not stop: {job.result}", f"look at: systemctl status '{job.unit}'")

    def reload_by_signal(self, unit: str) -> None:
        """Send SIGHUP to a unit's main process. A job would wait for the manager's own reload, which waits for us."""
        self.call("KillUnit", "ssi", unit, "main", signal.SIGHUP)

    def is_restarting(self, unit: str) -> bool:
        """Tell whether the job that is stopping a unit will start it again."""
        path = self.call("GetUnit", "s", unit).decode()
        number, job = self._bus.get_property(
            _DESTINATION, path.encode(), b"org.freedesktop.systemd1.Unit", b"Job", b"(uo)"
        )
        if not number:
            return False
        kind = self._bus.get_property(_DESTINATION, job, b"org.freedesktop.systemd1.Job", b"JobType", b"s")
        return kind in (b"restart", b"try-restart")

    def mark_started(self, *units: str) -> None:
        """Start units that have no process, and nothing else, so that they can be stopped. What they want stays as it is.

        Units that are stopping are left out: a command that waits for their stop would be told that it is cancelled.
        """
        busy = {unit.name for unit in self.list_units(*units) if unit.active not in ("inactive", "failed")}
        self.jobs("StartUnit", sorted(set(units) - busy), mode="ignore-dependencies")

    def wait_for_change(self) -> None:
        """Return when a job has ended, or after a second, as processes can die without a job."""
        self._note_jobs()
        if not self._subscribed:
            self.call("Subscribe")
            self._subscribed = True
        self._process()
        self._wait()
        self._removed.clear()

    def reset_failed(self, unit: str) -> None:
        """Forget that a unit failed. A unit that is not loaded has nothing to forget."""
        with contextlib.suppress(DBusError):
            self.call("ResetFailedUnit", "s", unit)


def _encode(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


@contextlib.contextmanager
def connect() -> Iterator[Systemd]:
    """Open a connection. Raises VclusterError."""
    with Systemd() as systemd:
        yield systemd
