"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pileline.config import check

from tests.conftest import own_code

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_added_to_the_default_configuration_is_valid(snippet: str) -> None:
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    raw: dict[str, Any] = yaml.safe_load(text)
    mix = raw["corpora"]["demo"]["mix"]
    for section, parts in yaml.safe_load(snippet.replace("*mix", "null")).items():
        if isinstance(parts, list):
            raw[section] += parts
        else:
            raw[section] |= parts
    for corpus in raw["corpora"].values():
        corpus["mix"] = corpus["mix"] or mix
    before = len(check(yaml.safe_load(text)).experiments)
    assert len(check(raw).experiments) > before


def test_the_commands_are_there_and_nothing_was_left_to_fill_in() -> None:
    lines = {line.split("  #")[0].strip() for line in README.splitlines()}
    assert {"make run", "make test", "snakemake --cores all", "pytest"} <= lines
    assert not re.findall(r"\{[A-Z_]+\}", README)


def test_every_file_that_it_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^):#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_filter_of_ones_own_does_what_it_says() -> None:
    names: dict[str, Any] = {}
    exec(own_code()["my_filters.py"], names)
    assert names["no_shouting"]("A Quiet sentence")
    assert not names["no_shouting"]("A LOUD ONE")
    assert names["no_shouting"]("A LOUD ONE", share=1.0)
