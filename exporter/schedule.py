"""Runs calls in threads at intervals and at times.

apscheduler keeps its times on the wall clock: one that is set back would stop all jobs for as long as it went
back, and one that is set from 1970 to now would make it count every missed run. Hence `_Interval`, which never
looks back, and `follow_clock`, which moves the jobs along with the clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from exporter.clocks import JumpWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from apscheduler.job import Job

MOST_RUNNING: Final = 1000
"""Calls that may run at once, so that no account waits for another one."""


class _Interval(BaseTrigger):  # type: ignore[misc] # apscheduler ships no types
    """Fires every `interval`, first at once; runs that were missed are left out."""

    def __init__(self, interval: timedelta) -> None:
        self.interval = interval

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return the time of the next run: an interval after the last one, and never further than that."""
        if previous is None:
            return now
        following = previous + self.interval
        return following if now < following <= now + self.interval else now + self.interval

    def __str__(self) -> str:
        return f"every {self.interval}"


class Schedule:
    """Runs calls in threads. `wall` gives seconds since the epoch, `steady` any that never jump.

    A call that is still running when it is due again is not run twice: the log names the one that was skipped.
    """

    def __init__(self, *, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self._wall = wall
        self._steady = steady
        self._watch = JumpWatch(wall=wall, steady=steady)
        self._followed = steady()
        self._executor = ThreadPoolExecutor(MOST_RUNNING)
        self._scheduler = BackgroundScheduler(
            executors={"default": self._executor},
            # Without a grace time a late run would be dropped after one second
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )

    def start(self) -> None:
        """Begin to run what is due."""
        self._scheduler.start()

    def shutdown(self) -> None:
        """Run nothing more, and return once everything under way has ended."""
        self._scheduler.pause()
        self._scheduler.get_jobs()  # takes the lock under which calls are begun: now none is about to be
        # Not with wait=True: it waits within locks that a call under way may want, to schedule another one
        self._scheduler.shutdown(wait=False)
        self._executor.shutdown(wait=True)

    def every(self, seconds: float, call: Callable[[], object], name: str) -> Job:
        """Run `call` at once and then every so many seconds; `name` is for the log."""
        trigger = _Interval(timedelta(seconds=seconds))
        return self._scheduler.add_job(call, trigger, name=name, next_run_time=self._time(0))

    def once(self, wait: float, call: Callable[[], object], key: str) -> None:
        """Run `call` in `wait` seconds, in place of what was to be run under the same `key`."""
        self._scheduler.add_job(
            call,
            "date",
            run_date=self._time(max(0.0, wait)),
            id=key,
            name=key,
            replace_existing=True,
            max_instances=MOST_RUNNING,  # one that has not quite ended doesn't keep the next one away
        )

    def cancel(self, key: str) -> None:
        """Don't run what was to be run once under `key`, if anything was."""
        try:
            self._scheduler.remove_job(key)
        except JobLookupError:
            return

    def follow_clock(self) -> bool:
        """Move all jobs along if the wall clock has jumped; return whether it has. Call it every second."""
        steady = self._steady()
        late, self._followed = steady - self._followed, steady
        jump = self._watch.jumped()
        if jump:
            for job in self._scheduler.get_jobs():
                self._move(job, jump)
        elif late > _SUSPENDED:
            self._scheduler.wakeup()  # its wait stood still while the machine was suspended
        return bool(jump)

    def _move(self, job: Job, jump: float) -> None:
        due = job.next_run_time + timedelta(seconds=jump)
        if isinstance(job.trigger, _Interval):
            due = min(due, self._time(0) + job.trigger.interval)  # it may have run since the jump
        try:
            job.modify(next_run_time=due)
        except JobLookupError:  # it was due
            return

    def _time(self, wait: float) -> datetime:
        return datetime.fromtimestamp(self._wall() + wait, UTC)


_SUSPENDED: Final = 5.0
"""Seconds between two looks at the clock after which the machine was suspended, or nearly so."""
