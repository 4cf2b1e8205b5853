"""The tokenizer at its bounds: ten megabytes of one line, any number of cores, memory, the longest chunk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pileline import tokenizer
from pileline.tokenizer import sample, settings

from tests.unit.test_tokenizer import COMMON, RARE, SETTINGS, make_texts, pairs_inside

WORKFLOW = Path(__file__).parents[2] / "workflow"
LEARNED = ["bpe", "unigram", "char"]
MEGABYTES = 10


def fitted(kind: str) -> tokenizer.Tokenizer:
    return tokenizer.Tokenizer(tokenizer.fit(make_texts(200), SETTINGS[kind], 1)[0])


def long_line(what: str) -> str:
    """One line of ten megabytes, with blanks, without, or of two letters that can be cut nowhere."""
    words = random.Random(7).choices([*COMMON, *RARE, "👍", "\t", settings.BLANK], k=1_000_000 * MEGABYTES // 2)
    text = {"words": " ".join(words), "joined": "".join(words), "ba": "ba" * (MEGABYTES * 500_000)}[what]
    return text.encode()[: MEGABYTES * 1_000_000].decode("utf-8", "ignore")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["words", "joined", "ba"])
@pytest.mark.parametrize("kind", tokenizer.KINDS)
def test_ten_megabytes_of_one_line_come_back(kind: str, what: str) -> None:
    made, text = fitted(kind), long_line(what)
    tokens = made.encode(text)
    assert made.decode(tokens.tolist()) == text
    assert int(made.token_bytes[tokens].sum()) == len(text.encode())


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_unigram_or_bpe_text_is_cut_only_where_no_piece_can_cross(kind: str) -> None:
    made = fitted(kind)
    text = "".join(random.Random(3).choices([*COMMON, *RARE, "\n"], k=20_000))  # long, and without any blank
    parts = list(made.segments(text))
    assert len(parts) > 3
    inside = pairs_inside(made)
    assert not any(first[-1] + second[0] in inside for first, second in pairwise(parts))


def test_every_sum_of_a_unigram_segment_is_exact() -> None:
    made = fitted("unigram")
    assert all(score == round(score / settings.STEP) * settings.STEP for score in made.scores)
    longest = max(map(len, made.segments("\U0001f44d" * 100_000)))  # characters without a piece cost most
    total = longest * (10 - min(made.scores))
    assert np.float32(total - settings.STEP) != np.float32(total)


# A process of its own for each, since libraries look at cores and variables when they are loaded.
TRAIN = """
import hashlib, os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
from pileline import tokenizer
from tests.unit.test_tokenizer import SETTINGS, make_texts
for kind in {kinds}:
    print(kind, hashlib.sha256(tokenizer.fit(make_texts(300), SETTINGS[kind], 1)[0]).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind a process to cores")
def test_the_file_does_not_depend_on_cores_or_the_jobs_threads() -> None:
    printed = set()
    for cores, threads in [("1", "1"), ("2", "8")]:
        path = os.pathsep.join([str(WORKFLOW), str(WORKFLOW.parent)])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": path}
        command = [sys.executable, "-c", TRAIN.format(kinds=LEARNED), cores]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        printed.add(done.stdout)
    [same] = printed
    assert [line.split()[0] for line in same.splitlines()] == LEARNED


def test_memory_for_the_sample_is_bounded_by_its_setting() -> None:
    texts = (f"{number:07d}" * 100 for number in range(30_000))  # 21 MB
    tracemalloc.start()
    kept, counts = sample.sample(texts, 500_000, seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts["text_bytes"] == 21_000_000
    assert sum(map(len, kept)) <= 500_000
    assert peak < 2_000_000


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_largest_chunk_is_learned_from_and_not_skipped(kind: str) -> None:
    chunk = "👍🎉" * (sample.CHUNK // 2)  # four bytes a character: as many as a chunk can have
    assert len(chunk) == sample.CHUNK
    model, seen = tokenizer.fit([*make_texts(200), chunk], SETTINGS[kind], 1)
    made = tokenizer.Tokenizer(model)
    assert seen.documents_cut == 0
    assert any("👍🎉" in piece or "🎉👍" in piece for piece in made.pieces)
    assert len(made.encode(chunk)) < len(chunk)
