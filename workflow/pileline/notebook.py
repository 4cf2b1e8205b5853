"""What the frame must know of a notebook without running it: its code and its parameters."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAG = "parameters"


class NotebookError(ValueError):
    """A notebook that cannot be read, or has not exactly one well-formed cell tagged `parameters`."""


@dataclass(frozen=True)
class Notebook:
    """A notebook's code cells, in order, and its parameters with their defaults."""

    path: Path
    code: list[str]
    parameters: dict[str, Any]


def read(path: str | Path) -> Notebook:
    """Read a notebook; parameters are the annotated or plain assignments of literals in the tagged cell."""
    path = Path(path)
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        raise NotebookError(f"{path}: no such notebook") from None
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookError(f"{path}: not a notebook of format 4 ({error!r})") from None
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    tagged = [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and TAG in cell.get("metadata", {}).get("tags", [])
    ]
    if len(tagged) != 1:
        raise NotebookError(f"{path}: {len(tagged)} cells tagged '{TAG}', expected exactly one")
    return Notebook(path, code, _parameters(tagged[0], path))


def _parameters(source: str, path: Path) -> dict[str, Any]:
    """The names and literal values that the parameters cell assigns."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise NotebookError(f"{path}: the parameters cell is not valid Python: {error}") from None
    found: dict[str, Any] = {}
    for statement in statements:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                raise NotebookError(
                    f"{path}: the parameters cell may hold only `name: type = literal` lines, "
                    f"found: {ast.unparse(statement)}"
                )
        try:
            found[name] = ast.literal_eval(value)
        except ValueError:
            raise NotebookError(f"{path}: parameter '{name}' must be a literal, found: {ast.unparse(value)}") from None
    return found


def parameter_problems(notebook: Notebook, given: set[str]) -> list[str]:
    """What is wrong with passing the parameters `given`: unknown ones and missing ones, a sentence each."""
    known = set(notebook.parameters)
    problems = [
        f"{notebook.path}: no parameter '{name}'; it has: {', '.join(sorted(known))}" for name in sorted(given - known)
    ]
    problems += [
        f"{notebook.path}: parameter '{name}' is given no value by the workflow; "
        "a parameter comes from config.yaml or from the paths of the stage's rule"
        for name in sorted(known - given)
    ]
    return problems
