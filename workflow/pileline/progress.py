"""Progress: a line every few seconds, readable in a log, a terminal and a notebook alike.

    with Progress("reading", total=29_000_000, unit="B") as progress:
        for document in documents:
            progress.add(len(document))

A bar that redraws itself needs a terminal; a stage runs in a kernel whose output goes to a log that
somebody follows. So progress is whole lines, few enough that an executed notebook stays small: the longer it
takes, the rarer they are.
"""

from __future__ import annotations

import time
from types import TracebackType

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
RARER, RAREST = 0.02, 60.0  # lines come no sooner than after this share of the time so far, of at most so many seconds


def readable(number: float, unit: str = "") -> str:
    """A number for people: 1234567 and "B" give "1.2 MB"; without a unit "1.2M"."""
    for size, prefix in _UNITS:
        if abs(number) >= size:
            return (
                f"{number / size:.1f} {prefix}{unit}" if unit == "B" else f"{number / size:.1f}{prefix} {unit}".strip()
            )
    digits = 0 if number >= 10 or number == int(number) else 1  # 0.4 steps a second is not 0
    return f"{number:.{digits}f} {unit}".strip()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts work done and prints a line at most every `every` seconds, after minutes more rarely, and one at the end.

    `unit` is what is counted ("B", "documents", "steps", "tokens"); with `total` the line has the share
    done and the time left. `before` is what was done already, by a run that was interrupted. `note` of the last `add`
    is printed behind.
    """

    def __init__(
        self, what: str, total: float | None = None, unit: str = "", every: float = 5.0, before: float = 0.0
    ) -> None:
        self.what, self.total, self.unit, self.every = what, total, unit, every
        self.before = self.done = before
        self._note = ""
        self._start = self._printed = time.monotonic()

    def add(self, amount: float, note: str = "") -> None:
        """Count `amount` more."""
        self.done += amount
        self._note = note
        now = time.monotonic()
        if now - self._printed >= max(self.every, min(RARER * (now - self._start), RAREST)):
            self._printed = now
            print(self._line(now - self._start), flush=True)

    def _line(self, seconds: float) -> str:
        rate, left = (self.done - self.before) / max(seconds, 1e-9), (self.total or 0.0) - self.done
        done = self._counted(self.done)
        if self.total:
            done += f" of {self._counted(self.total)}"
        done += f" {self.unit}" if self.unit != "B" else ""
        if self.total:
            done += f" ({100 * self.done / self.total:.0f} %)"
        line = f"{self.what}: {done} in {clock(seconds)}, {readable(rate, self.unit)}/s"
        if left > 0 and rate > 0:
            line += f", {clock(left / rate)} left"
        return line + (f" | {self._note}" if self._note else "")

    def _counted(self, number: float) -> str:
        """Bytes are rounded; of steps or documents people look for the very one."""
        return readable(number, "B") if self.unit == "B" else f"{number:,.0f}"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        seconds = time.monotonic() - self._start
        print(("stopped at " if kind else "") + self._line(seconds), flush=True)
