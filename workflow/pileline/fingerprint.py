"""Fingerprints: which code a stage's result depends on, as text that Snakemake can compare.

A stage depends on the code cells of its notebook, on every module of this library that they import,
directly or through others, and on the pins of the third-party packages which that code imports. Each
becomes one string, `name:hash` or `name==version`. Given as separate `params` of a rule, Snakemake reruns
the stage when one changes and names exactly that one as the reason.

Python is hashed as its syntax tree without docstrings, so comments, docstrings and layout do not count.
Markdown cells, outputs, metadata and cell ids of a notebook are never looked at.

Imports are found by reading, not by running. A module that is chosen by name at run time (a model's kind)
is not seen; the rule adds it with `module_code`.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pileline import notebook as notebooks

PACKAGE = "pileline"
LIBRARY = Path(__file__).parent
LOCK = LIBRARY.parents[1] / "envs" / "requirements.lock"
# Import names that are not the distribution's name; every other import is looked up under its own name.
DISTRIBUTIONS = {
    "IPython": "ipython",
    "bs4": "beautifulsoup4",
    "fasttext": "fasttext-predict",
    "latex2mathml": "latex2mathml",
    "pypi_simple": "pypi-simple",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Code:
    """What counts in some Python: what it does, in 12 hexadecimal digits, and what it imports, anywhere in it."""

    digest: str
    imports: tuple[ast.Import | ast.ImportFrom, ...]

    def names(self, module: str = "") -> set[str]:
        """Dotted names that the code imports; relative ones are resolved against `module`."""
        found: set[str] = set()
        for node in self.imports:
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
                continue
            base = node.module or ""
            if node.level:
                parent = module.split(".")[: -node.level]
                base = ".".join([*parent, base]) if base else ".".join(parent)
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
        return found


def _tree(source: str) -> ast.Module:
    """The syntax tree of some Python; of a notebook cell with magics (`%time`, `!ls`) as IPython would run it."""
    try:
        return ast.parse(source)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # slow to import, so only where it is needed

        plain: str = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
        return ast.parse(plain)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache  # each module is reached from many notebooks, and each run of Snakemake looks at all of them
def _code(source: str) -> Code:
    """Read some Python once, by one walk through its syntax tree. Raises `SyntaxError` if it is none."""
    tree = _tree(source)
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, DOCUMENTED) and node.body and _is_docstring(node.body[0]):
            node.body = node.body[1:] or [ast.Pass()]
    return Code(hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12], tuple(imports))


def _code_of(file: Path) -> Code:
    return _code(file.read_text(encoding="utf-8"))


def _file_of(module: str, root: Path | None = None) -> Path | None:
    """The file of a module of this library, or below `root`; None where the dotted name is no module (but in one)."""
    place = (root or LIBRARY.parent).joinpath(*module.split("."))
    if place.is_dir():
        return place / "__init__.py" if (place / "__init__.py").exists() else None
    file = place.with_suffix(".py")
    return file if file.exists() else None


def _with_parents(module: str) -> list[str]:
    """A dotted name and the packages around it, whose `__init__` runs on import; the root is left out."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(2, len(parts) + 1)]


def _closure(names: set[str]) -> tuple[dict[str, Path], set[str]]:
    """The library's modules reached from imported `names`, with their files, and the third-party packages."""
    modules: dict[str, Path] = {}
    packages: set[str] = set()
    pending = sorted(names)
    while pending:
        name = pending.pop()
        top = name.split(".")[0]
        if top != PACKAGE:
            if top not in sys.stdlib_module_names and top != "__future__":
                packages.add(top)
            continue
        for module in _with_parents(name):
            file = _file_of(module)
            if file is not None and module not in modules:
                modules[module] = file
                # A package's __init__ resolves its relative imports against itself, a module against its parent.
                base = f"{module}.__init__" if file.name == "__init__.py" else module
                pending += sorted(_code_of(file).names(base))
    return modules, packages


@cache
def pins() -> dict[str, str]:
    """The lock file's pins: normalized distribution name to its `name==version`."""
    found = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;#]+)", line)
        if match:
            name = re.sub(r"[-_.]+", "-", match[1]).lower()
            found[name] = f"{name}=={match[2]}"
    return found


def _pin(package: str) -> str:
    name = re.sub(r"[-_.]+", "-", DISTRIBUTIONS.get(package, package)).lower()
    return pins().get(name, f"{name} (not in envs/{LOCK.name})")


def _entries(names: set[str]) -> list[str]:
    modules, packages = _closure(names)
    files = [
        f"workflow/{PACKAGE}/{file.relative_to(LIBRARY).as_posix()}:{_code_of(file).digest}"
        for file in modules.values()
    ]
    return sorted(files) + sorted(_pin(package) for package in packages)


def notebook_code(path: str | Path) -> list[str]:
    """What the notebook's result depends on: its own hash, the library's modules, the pinned packages."""
    code = notebooks.read(path).code
    for number, cell in enumerate(code, 1):
        try:
            _code(cell)
        except SyntaxError as error:
            raise notebooks.NotebookError(f"{path}: code cell {number} is not valid Python: {error}") from None
    own = hashlib.sha256("\n".join(_code(cell).digest for cell in code).encode()).hexdigest()[:12]
    return [f"{Path(path).as_posix()}:{own}", *_entries(set().union(*(_code(cell).names() for cell in code)))]


@cache
def own_code(module: str) -> str:
    """The same for a module of the user's own beside config.yaml (the working folder), and those it imports from there.

    One string, as for `module_code`. Raises `FileNotFoundError` if it is not there, `SyntaxError` if it is no Python.
    """
    here, found, others = Path.cwd(), dict[str, Path](), set[str]()
    pending = [module]
    while pending:
        name = pending.pop()
        # Packages' own __init__ run before the modules in them.
        for part in [name.rsplit(".", depth)[0] for depth in range(name.count("."), 0, -1)] + [name]:
            file = _file_of(part, here) if part.split(".")[0] != PACKAGE else None
            if file is None:
                others.add(part)
            elif part not in found:
                found[part] = file
                base = f"{part}.__init__" if file.name == "__init__.py" else part
                pending += sorted(_code_of(file).names(base))
    if module not in found:
        raise FileNotFoundError(f"no file {module.replace('.', '/')}.py beside config.yaml")
    files = [f"{file.relative_to(here)}:{_code_of(file).digest}" for _, file in sorted(found.items())]
    return " ".join(files + _entries(others - {*found}))


def own_names(module: str) -> set[str] | None:
    """The names that a module of the user's own defines anywhere in it; None where `import *` brings others."""
    file = _file_of(module, Path.cwd())
    found: set[str] = set()
    for node in ast.walk(_tree(file.read_text(encoding="utf-8"))) if file else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
    return None if "*" in found else found


@cache
def module_code(module: str) -> str:
    """The same for one module that is chosen by name at run time, as one string; it must be there."""
    if _file_of(module) is None:
        raise FileNotFoundError(f"no module {module} in {LIBRARY}")
    return " ".join(_entries({module}))


def files(folder: Path) -> list[str]:
    """The files below a folder that are not Python, each with the hash of its bytes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        f"{path.relative_to(LIBRARY.parents[1]).as_posix()}:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        for path in found
    ]
