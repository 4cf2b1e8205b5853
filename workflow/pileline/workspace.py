"""Where a notebook works: the repository's root, whoever started its kernel."""

from __future__ import annotations

import os
from pathlib import Path


def enter(output: str) -> None:
    """Go to the repository's root and make the folder `output` if it is not there.

    The runner starts kernels in the root, Jupyter in the notebook's own folder; all paths of the parameters
    are relative to the root, known by its config.yaml. Raises FileNotFoundError outside of a repository.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "config.yaml").exists():
            os.chdir(folder)
            break
    else:
        raise FileNotFoundError(f"no config.yaml in {here} or above it; start Jupyter in Pileline's folder")
    Path(output).mkdir(parents=True, exist_ok=True)
