"""A user's own filter: a recipe names it as `module:function`, with the function's settings.

The module is a file beside config.yaml (or any package that is installed). The function takes a text, and its settings
by name. It returns the text to keep, rewritten or not; True to keep it as it is; False or None to remove the document,
for the function's name; or a `cleaning.Removal`, for the reason given there. Anything else, and an exception, stops
the stage with the document's id, so that a mistake in a filter costs no text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pileline.cleaning.removal import CleaningError, Removal
from pileline.own import OwnError, load

LONGEST_REASON = 100  # characters: reasons are counted, so a part of each document's text would be as many as these


class Own:
    """A filter made of a function."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        """Import the function; raises `CleaningError` if there is none, or it does not take the settings."""
        self.name = name
        self._settings = settings
        self._function = _function(name)
        try:
            inspect.signature(self._function).bind("", **settings)
        except TypeError as error:
            raise CleaningError(f"filter {name}: its function does not take these settings ({error})") from None
        except ValueError:  # a function of C, whose settings cannot be known before it is called
            pass

    def apply(self, text: str) -> str | Removal:
        try:
            outcome = self._function(text, **self._settings)
        except Exception as error:
            raise CleaningError(f"filter {self.name} raised {type(error).__name__}: {error}") from error
        if outcome is True:
            return text
        if outcome is False or outcome is None:
            return Removal(self.name.partition(":")[2])  # what has no name of its own, as a partial, has this one
        if isinstance(outcome, str):
            return outcome.encode("utf-8", "replace").decode()  # a lone surrogate cannot be stored
        if isinstance(outcome, Removal):
            return self._checked(outcome)
        raise CleaningError(
            f"filter {self.name} returned {outcome!r:.100}; a filter returns a text, True or False, or cleaning.Removal"
        )

    def _checked(self, removal: Removal) -> Removal:
        """The removal, if its reason is one that can be stored, counted and shown."""
        reason = removal.reason
        if not isinstance(reason, str) or not 0 < len(reason) <= LONGEST_REASON or not reason.isprintable():
            raise CleaningError(
                f"filter {self.name} returned a Removal for the reason {reason!r:.100}; a reason is a text of one line "
                f"and at most {LONGEST_REASON} characters, the same for many documents"
            )
        return removal


def _function(name: str) -> Callable[..., Any]:
    try:
        function = load(name)
    except OwnError as error:
        raise CleaningError(f"filter {error}") from error
    if not callable(function):
        raise CleaningError(f"filter {name}: it is a {type(function).__name__}, no function")
    return function  # type: ignore[no-any-return]
