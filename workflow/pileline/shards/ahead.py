"""Work done ahead by threads, its results taken in order: how shards are written and batches fetched early.

Threads serve where the work itself leaves Python, as SentencePiece's encoding and the reading of files do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int = 1, ahead: int = 2
) -> Generator[Result]:
    """`map(work, items)` by `threads` threads, at most `ahead` results before the one that is asked for.

    An exception of `work` or `items` is raised where its result would have stood. Closing the iterator waits for what
    is being done and drops the rest. With `ahead` 0 no thread is started.
    """
    if ahead < 1 or threads < 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pileline-ahead")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
