"""Thresholds: what they may be, and how a number is held against one (by division, as the published code does)."""

from __future__ import annotations

from typing import Any


def count(filter_: Any, *names: str) -> None:
    """Raise `ValueError` unless each of the filter's settings is 0 or more."""
    for name in names:
        if (value := getattr(filter_, name)) < 0:
            raise ValueError(f"{name} is {value}; it must be 0 or more")


def share(filter_: Any, *names: str) -> None:
    """Raise `ValueError` unless each of the filter's settings is from 0 to 1."""
    for name in names:
        if not 0 <= (value := getattr(filter_, name)) <= 1:
            raise ValueError(f"{name} is {value}; it must be a share, from 0 to 1")


def over(number: float, of: float, limit: float) -> bool:
    """Whether `number` is a larger share of `of` than `limit`; of nothing there is no share."""
    return of > 0 and number / of > limit


def under(number: float, of: float, limit: float) -> bool:
    """Whether `number` is a smaller share of `of` than `limit`; of nothing there is no share."""
    return of > 0 and number / of < limit
