"""What work costs, told so that any machine says the same: as a ratio, since seconds depend on the machine.

The two are run in turn, so that whatever else the machine does meets both, and the least time of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def times_as_long(work: Callable[[], object], other: Callable[[], object], rounds: int = 3) -> float:
    """How many times the processor time of `other` this process needs for `work`."""

    def seconds(each: Callable[[], object]) -> float:
        begun = time.process_time()
        each()
        return time.process_time() - begun

    pairs = [(seconds(work), seconds(other)) for _ in range(rounds)]
    return min(first for first, _ in pairs) / min(second for _, second in pairs)
