"""What a user wrote beside config.yaml: a filter's function, a model's class, named there as `module:name`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


class OwnError(ValueError):
    """The name is none, its module cannot be imported, or has no such name; the message begins with the name."""


def load(name: str) -> Any:
    """What `module:name` names, its module imported from the working folder (or of any package that is installed)."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise OwnError(f"{name}: what is one's own is named as module:name")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise OwnError(
            f"{name}: module {module_name} cannot be imported ({error}); put {module_name}.py beside config.yaml"
        ) from error
    except Exception as error:
        raise OwnError(f"{name}: importing {module_name} raised {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if found is None:
        raise OwnError(f"{name}: {module.__file__} has no '{attribute}'")
    return found
