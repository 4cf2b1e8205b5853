"""What the tests of the whole line share: a small line, run once for real, that each test copies and changes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from filelock import FileLock
from hypothesis import HealthCheck, settings

# A machine with other work to do is no reason to fail, and neither is an example that nobody's change brought:
# `pytest --hypothesis-profile=search` looks for those.
for profile, repeatable in (("search", False), ("repeatable", True)):
    settings.register_profile(
        profile, deadline=None, derandomize=repeatable, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("repeatable")

# Servers that tests start on this machine are asked without a proxy, which could not reach them.
for name in ("NO_PROXY", "no_proxy"):
    os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))

ROOT = Path(__file__).parents[1]
LONGEST = 1800  # seconds: what takes longer hangs, however busy the machine
TRACKED = ("Snakefile", "workflow", "notebooks", "envs", "pyproject.toml")
WORDS = (
    *("river", "mountain", "history", "language", "letter", "garden", "winter", "music", "people", "century"),
    *("island", "engine", "window", "theory", "market", "village", "ocean", "number", "silver", "morning"),
    *("paper", "forest", "circle", "bridge", "memory", "planet", "signal", "harbour", "author", "colour"),
)


def sentences(generator: random.Random, count: int) -> str:
    """Prose of a small vocabulary, enough to learn from."""
    made = []
    for _ in range(count):
        words = [generator.choice(WORDS) for _ in range(generator.randint(5, 11))]
        made.append(f"The {' '.join(words)} of the {generator.choice(WORDS)}.".capitalize())
    return " ".join(made)


def write_texts(folder: Path) -> None:
    """Local sources: prose with exact and near duplicates, Python's own library code, and texts with a topic."""
    generator = random.Random(1)
    prose, code = folder / "prose", folder / "code"
    prose.mkdir(parents=True)
    code.mkdir()
    topics = ("river", "engine", "music")
    rows = [
        {"text": f"Of the {topic}. {sentences(generator, 5)} It is a {topic}.", "topic": topic}
        for topic in topics
        for _ in range(100)
    ]
    (folder / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    texts = [sentences(generator, 12) for _ in range(220)]
    texts += texts[:10] + [f"{text} One more sentence stands at its end." for text in texts[10:20]] + ["too short"]
    for number, text in enumerate(texts):
        (prose / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"), key=lambda path: path.name)
    for path in library[:40]:
        (code / f"{path.stem}.txt").write_text(path.read_text(encoding="utf-8")[:20_000], encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """While one test process runs the line, another takes tests that need none, and those of reruns after them."""
    rerun = [item for item in items if "rerun" in item.path.parts]
    others = [item for item in items if "rerun" not in item.path.parts]
    half = len(others) // 2
    items[:] = others[:half] + rerun + others[half:]


def default_config() -> dict[str, Any]:
    """config.yaml as it is read, to change."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    return loaded


def own_code() -> dict[str, str]:
    """The modules that the README shows as the user's own, by the file's name in their first line."""
    blocks = re.findall(
        r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    return dict(blocks)


def small_config() -> dict[str, Any]:
    """Every kind of part, small: three sources (cut by files, whole, cut by documents), two corpora, some models."""
    mix = {"prose": 1.0, "code": 1.5, "topics": 1.0}
    return {
        "sources": {
            "prose": {"path": "texts/prose/*.txt", "parts": 2, "read": {"format": "text"}},
            "code": {"path": "texts/code/*.txt", "read": {"format": "text", "split": 2000}},
            "topics": {"path": "texts/topics.jsonl", "parts": 2, "read": {"format": "jsonl", "metadata": ["topic"]}},
        },
        "recipes": {
            "none": [],
            "slimpajama": ["fix_unicode", {"short": {"characters": 200}}, {"my_filters:no_shouting": {"share": 0.9}}],
        },
        "deduplications": {"none": {"kind": "none"}, "minhash": {"kind": "minhash"}},
        "holdout": {"validation": 0.05, "test": 0.05},
        "corpora": {
            "demo": {"recipe": "slimpajama", "deduplication": "minhash", "mix": mix},
            "raw": {"recipe": "none", "deduplication": "none", "mix": dict(mix)},
        },
        "tokenizers": {"bpe": {"kind": "bpe", "vocabulary": 400}},
        "models": {
            "ngram": {"kind": "ngram", "order": 2},
            "transformer": {
                "kind": "transformer",
                "layers": 1,
                "heads": 2,
                "width": 32,
                "context": 32,
                "steps": 12,
                "batch_tokens": 256,
            },
            "tiny": {"kind": "my_models:Tiny", "width": 16, "context": 32, "steps": 12, "batch_tokens": 256},
            "mlp": {"kind": "mlp", "window": 4, "hidden": 32, "context": 32, "steps": 12, "batch_tokens": 256},
        },
        "evaluation": {"holdout": "demo", "prompts": ["The river {x} of 'quotes'"]},
        "tasks": {"topic": {"source": "topics", "recipe": "slimpajama", "label": "topic", "test": 0.3}},
        "experiments": [
            {"corpus": ["demo", "raw"], "tokenizer": "bpe", "model": "ngram"},
            {"corpus": "demo", "tokenizer": "bpe", "model": ["transformer", "tiny", "mlp"]},
            {"corpus": "demo", "tokenizer": "bpe", "model": "transformer", "task": "topic"},
        ],
        "seed": 1,
    }


@dataclass
class Line:
    """A folder with the whole workflow in it, its results and Snakemake's records included."""

    folder: Path

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snakemake", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=LONGEST)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.snakemake("--cores", "2", *arguments)

    def read_config(self) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))
        return loaded

    def write_config(self, config: dict[str, Any]) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def planned(self) -> Plan:
        """What a dry run would do."""
        done = self.snakemake("--dry-run")
        assert done.returncode == 0, done.stdout + done.stderr
        return Plan(done.stdout + done.stderr)

    def contents(self) -> dict[str, bytes]:
        """The files that stages made, without records of time: name to bytes."""
        results = self.folder / "results"
        skip = ("results/logs/", "results/report/", "run.json", "events/")
        return {
            name: path.read_bytes()
            for path in sorted(results.rglob("*"))
            if path.is_file() and not any(part in (name := str(path.relative_to(self.folder))) for part in skip)
        }


@dataclass
class Plan:
    """A dry run's text, taken apart."""

    text: str

    @property
    def jobs(self) -> list[tuple[str, str]]:
        """Each planned job: its rule, and the reason that Snakemake gives."""
        blocks = re.split(r"^(?:local)?rule (\w+):$", self.text, flags=re.MULTILINE)[1:]
        pairs = list(zip(blocks[::2], blocks[1::2], strict=True))
        return [(rule, (re.search(r"reason: (.*)", block) or ["", ""])[1]) for rule, block in pairs]

    @property
    def causes(self) -> dict[str, set[str]]:
        """The rules that run for a cause of their own, not because another job feeds them: rule to reasons."""
        found: dict[str, set[str]] = {}
        for rule, reason in self.jobs:
            own = [part for part in reason.split("; ") if not part.startswith("Input files updated by another job")]
            if own and rule not in ("all", "default"):
                found.setdefault(rule, set()).update(own)
        return found

    @property
    def nothing(self) -> bool:
        return "Nothing to be done" in self.text and not self.jobs


def new_line(folder: Path) -> Line:
    """The workflow as it stands in the checkout, with a small configuration and local texts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TRACKED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / name)
    write_texts(folder / "texts")
    for name, code in own_code().items():
        (folder / name).write_text(code, encoding="utf-8")
    line = Line(folder)
    line.write_config(small_config())
    return line


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """The small line, run from nothing to its report, once for all test processes. Tests take a `line` to change."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "finished.lock"):
        line, ended = Line(shared / "finished"), shared / "finished.ended"
        if not line.folder.exists():
            done = new_line(line.folder).run()
            ended.write_text("" if done.returncode == 0 else done.stdout[-5000:] + done.stderr[-5000:])
    said = ended.read_text()
    assert not said, said
    return line


@pytest.fixture
def line(finished: Line, tmp_path: Path) -> Line:
    """A copy of the finished line, times of its files kept, to change and look at."""
    return copy_of(finished, tmp_path / "line")


def copy_of(line: Line, folder: Path) -> Line:
    shutil.copytree(line.folder, folder, symlinks=True, copy_function=shutil.copy2)
    return Line(folder)


def make_newer(path: Path) -> None:
    """Give a file the present time, as a touch or a fresh clone does."""
    os.utime(path)


def wait_for_end(processes: Iterable[psutil.Process]) -> None:
    """Wait until they have ended, as a zombie has: its parent alone has not asked how."""
    deadline = time.monotonic() + LONGEST
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline, f"{process} goes on"
                time.sleep(0.02)
