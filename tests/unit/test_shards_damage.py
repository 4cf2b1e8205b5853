"""Shards that are not what their manifest says are refused by name, before a model sees a token of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pileline import documents, manifest, models, shards, tokenizer, training
from pileline.documents import Document

THIRD = "train-00002.arrow"
TRANSFORMER = {"kind": "transformer", "layers": 1, "heads": 2, "width": 16, "context": 8, "steps": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tokenizer.Tokenizer]:
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    words = ["ba", "ko", "riten", "shumel", "orist"]
    texts = [" ".join(generator.choice(words, 30).tolist()) for _ in range(120)]
    for split, part in (("train", texts[:100]), ("validation", texts[100:])):
        rows = [Document(f"{split}#{n}", "s", text, documents.key_of(text)) for n, text in enumerate(part)]
        documents.write(folder / f"{split}.parquet", rows)
    tokenizer.train(texts, {"kind": "bpe", "vocabulary": 300}, 1, folder / tokenizer.NAME)
    return folder, tokenizer.Tokenizer((folder / tokenizer.NAME).read_bytes())


@pytest.fixture
def folder(corpus: tuple[Path, tokenizer.Tokenizer], tmp_path: Path) -> Path:
    for split in ("train", "validation"):
        shards.write(corpus[0], split, corpus[1], tmp_path, shard_mb=0.002)
    manifest.write(tmp_path, "shards", {"tokenizer_sha256": corpus[1].sha256})
    assert (tmp_path / THIRD).exists()
    return tmp_path


def flip(folder: Path) -> None:
    content = bytearray((folder / THIRD).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / THIRD).write_bytes(content)


def truncate(folder: Path) -> None:
    (folder / THIRD).write_bytes((folder / THIRD).read_bytes()[:-100])


def remove(folder: Path) -> None:
    (folder / THIRD).unlink()


def swap(folder: Path) -> None:
    (folder / "train-00001.arrow").rename(folder / "aside")
    (folder / THIRD).rename(folder / "train-00001.arrow")
    (folder / "aside").rename(folder / THIRD)


def from_the_future(folder: Path) -> None:
    with pa.ipc.open_file(folder / THIRD) as file:
        table = file.read_all()
    later = table.schema.metadata | {b"schema_version": b"99"}
    with pa.ipc.new_file(folder / THIRD, table.schema.with_metadata(later)) as file:
        file.write_table(table)


DAMAGES: dict[Callable[[Path], None], tuple[str, str, str]] = {  # the shard named, with verification and without
    flip: (THIRD, "changed since stage 'shards' wrote it", ""),
    truncate: (THIRD, "changed since stage 'shards' wrote it", "not a whole Arrow file"),
    remove: (THIRD, f"missing, though {manifest.NAME} names it", "missing; write the shards again"),
    swap: (
        "train-00001.arrow",
        "changed since stage 'shards' wrote it",
        "holds shard 2 of split 'train', where shard 1",
    ),
    from_the_future: (THIRD, "changed since stage 'shards' wrote it", "schema version 99 of shards, this code reads"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_shard_is_refused_by_name(folder: Path, damage: Callable[[Path], None]) -> None:
    name, said, unverified = DAMAGES[damage]
    damage(folder)
    with pytest.raises(manifest.ManifestError, match=re.escape(f"{folder / name}: {said}")):
        shards.open_shards(folder, "train")
    shards.open_shards(folder, "validation")  # its own file is whole
    if unverified:
        with pytest.raises(shards.ShardError, match=re.escape(f"{folder / name}: {unverified}")):
            shards.open_shards(folder, "train", verify=False)


@pytest.mark.parametrize("damage", [remove, swap, from_the_future], ids=lambda damage: damage.__name__)
def test_a_manifest_made_of_the_damage_does_not_hide_it(
    folder: Path, corpus: tuple[Path, tokenizer.Tokenizer], damage: Callable[[Path], None]
) -> None:
    damage(folder)
    manifest.write(folder, "shards", {"tokenizer_sha256": corpus[1].sha256})
    with pytest.raises(shards.ShardError, match=r"train-0000\d.arrow: "):
        shards.open_shards(folder, "train")


def test_shards_that_hold_less_than_the_manifest_counts_are_refused(
    folder: Path, corpus: tuple[Path, tokenizer.Tokenizer]
) -> None:
    metrics = {"tokenizer_sha256": corpus[1].sha256, "tokens": {"train": shards.open_shards(folder, "train").n_tokens}}
    manifest.write(folder, "shards", metrics)
    shards.open_shards(folder, "train")
    max(folder.glob("train-*")).unlink()
    manifest.write(folder, "shards", metrics)
    with pytest.raises(shards.ShardError, match=r"tokens in the shards of split 'train', manifest.json counts"):
        shards.open_shards(folder, "train")


def test_another_tokenizer_is_refused(folder: Path) -> None:
    with pytest.raises(shards.ShardError, match="run the stage 'shards' again"):
        shards.open_shards(folder, "train", "0" * 64)
    manifest.write(folder, "shards", {"tokenizer_sha256": "f" * 64})
    with pytest.raises(shards.ShardError, match=rf"train-00000.arrow: names another tokenizer than {manifest.NAME}"):
        shards.open_shards(folder, "train")


def test_a_shard_of_another_tokenizer_among_the_others_is_refused(
    folder: Path, corpus: tuple[Path, tokenizer.Tokenizer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    texts = [row.text for row in documents.read(corpus[0] / "train.parquet")]
    path = tmp_path_factory.mktemp("other") / tokenizer.NAME
    tokenizer.train(texts, {"kind": "bpe", "vocabulary": 301}, 1, path)
    shards.write(corpus[0], "train", tokenizer.Tokenizer(path.read_bytes()), path.parent, shard_mb=0.002)
    (folder / THIRD).write_bytes((path.parent / THIRD).read_bytes())
    manifest.write(folder, "shards", {"tokenizer_sha256": corpus[1].sha256})
    with pytest.raises(shards.ShardError, match=rf"{THIRD}: of another tokenizer than .*train-00000.arrow"):
        shards.open_shards(folder, "train")


def test_a_manifest_of_the_future_is_refused(folder: Path) -> None:
    path = folder / manifest.NAME
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(manifest.ManifestError, match="schema version 99"):
        shards.open_shards(folder, "train")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_training_does_not_start_on_damage(
    folder: Path, corpus: tuple[Path, tokenizer.Tokenizer], tmp_path_factory: pytest.TempPathFactory, split: str
) -> None:
    path = folder / f"{split}-00000.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    output = tmp_path_factory.mktemp("output")
    model = models.build(TRANSFORMER, corpus[1].vocabulary_size, corpus[1].end, 1)
    with pytest.raises(manifest.ManifestError, match=re.escape(path.name)):
        training.train(model, folder, TRANSFORMER, 1, "cpu", 1, output, output)
    assert list(output.iterdir()) == []
