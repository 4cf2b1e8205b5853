"""The checks of style, types, architecture and packaging that `make lint` runs, so that the tests hold them too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHECKS = {
    "ruff": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "import-linter": ["lint-imports"],
    "snakefmt": ["snakefmt", "--check", "Snakefile", "workflow"],
    "snakemake lint": ["snakemake", "--lint"],
}


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS.keys())
def test_it_is_clean(command: list[str]) -> None:
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def pins(lines: list[str]) -> list[str]:
    return sorted(line.strip() for line in lines if re.match(r"\S+==", line.strip()))


def test_the_conda_environment_has_the_pins_of_the_lock() -> None:
    lock = (ROOT / "envs/requirements.lock").read_text(encoding="utf-8").splitlines()
    conda = yaml.safe_load((ROOT / "envs/pileline.yaml").read_text(encoding="utf-8"))
    (from_pip,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    assert pins(lock) == pins(from_pip)


def test_torch_is_pinned_without_a_build_so_that_each_machine_gets_its_own() -> None:
    assert "torch==2.13.0" in (ROOT / "envs/requirements.lock").read_text(encoding="utf-8").splitlines()
