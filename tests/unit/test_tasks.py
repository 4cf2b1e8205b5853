"""Tasks: honest splits, measures checked against hand counts, a probe that finds what is there and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pileline import documents, tasks
from pileline.documents import Document
from pileline.tasks.classification import wilson
from pileline.tasks.data import split

WORDS = {
    "music": ["violin", "opera", "chord"],
    "rocks": ["granite", "basalt", "quartz"],
    "trees": ["oak", "birch", "pine"],
}
SETTINGS: dict[str, Any] = {"label": "topic", "drop": [], "test": 0.2}


def make_rows(number: int = 400, label_of: Any = None) -> list[Document]:
    """Documents of three classes of unequal size, told by their words."""
    generator = np.random.default_rng(0)
    names = generator.choice(list(WORDS), size=number, p=[0.5, 0.3, 0.2])
    rows = []
    for place, name in enumerate(names):
        text = " ".join([*generator.choice(WORDS[name], size=3), "and", f"number{place}"])
        metadata = {"topic": label_of(place, name) if label_of else str(name)}
        rows.append(Document(f"s/f#{place}", "s", text, documents.key_of(text), json.dumps(metadata)))
    return rows


def make_task(rows: list[Document] | None = None) -> tasks.Labelled:
    return split(rows or make_rows(), "topic", SETTINGS)


class Words:
    """Stands for a tokenizer: a token is a word's class, or 9."""

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[Any]:
        numbers = {word: place for place, words in enumerate(WORDS.values()) for word in words}
        return [np.array([numbers.get(word, 9) for word in text.split()], dtype=np.int32) for text in texts]


class Features:
    """Stands for a model: how often each of the first three tokens occurs, scaled unevenly; or noise."""

    def __init__(self, informative: bool = True) -> None:
        self.informative = informative
        self.longest = 0

    def features(self, documents: list[Any]) -> Any:
        self.longest = max(self.longest, *map(len, documents))
        if not self.informative:
            return np.random.default_rng(len(documents)).normal(size=(len(documents), 3)).astype(np.float32)
        found = [[1e-4 * (row == 0).sum(), 1e4 * (row == 1).sum() + 1e6, (row == 2).sum(), 7] for row in documents]
        return np.array(found, dtype=np.float32)


def test_parts_follow_the_keys_and_share_nothing() -> None:
    rows = make_rows()
    task = make_task(rows)
    keys = {row.id: row.key for row in rows}
    assert all(documents.fraction(keys[name]) < 0.2 for name in task.test.ids)
    assert all(documents.fraction(keys[name]) >= 0.2 for name in task.train.ids)
    assert sorted(task.train.ids + task.test.ids) == sorted(keys)
    assert task.classes == ["music", "rocks", "trees"]
    labels = {row.id: json.loads(row.metadata)["topic"] for row in rows}
    assert [task.classes[label] for label in task.test.labels] == [labels[name] for name in task.test.ids]
    assert 0.1 < task.train.validation.mean() < 0.3


def test_parts_do_not_depend_on_the_order_of_documents() -> None:
    forward, backward = make_task(make_rows()), make_task(make_rows()[::-1])
    assert forward.train.ids == backward.train.ids
    assert forward.test.labels.tolist() == backward.test.labels.tolist()


def test_copies_unlabelled_and_contradictory_documents_are_left_out_and_counted() -> None:
    rows = make_rows()
    copy, contradiction, upper = rows[3]._replace(id="t/copy"), rows[4], rows[5]
    other = json.dumps({"topic": "trees" if "trees" not in contradiction.metadata else "music"})
    added = [
        copy,
        contradiction._replace(id="s/contradiction", metadata=other),
        upper._replace(id="s/none", metadata="{}", key=b"n" * 16),
        upper._replace(id="s/unwanted", metadata='{"topic": "unwanted"}', key=b"u" * 16),
        upper._replace(id="s/single", metadata='{"topic": "single"}', key=b"s" * 16),
    ]
    task = split(rows + added, "topic", {**SETTINGS, "drop": ["unwanted"]})
    assert task.left_out == {
        "class too small": 1,
        "copies with different labels": 1,
        "copy": 2,
        "dropped label": 1,
        "no label": 1,
    }
    kept = {*task.train.ids, *task.test.ids}
    assert kept == {row.id for row in rows} - {contradiction.id}


def test_a_task_without_two_classes_is_refused() -> None:
    with pytest.raises(tasks.TaskError, match="1 classes"):
        make_task(make_rows(100, lambda place, name: "same"))
    with pytest.raises(tasks.TaskError, match="no label"):
        split(make_rows(50), "subject", SETTINGS)


def test_read_fills_in_defaults(tmp_path: Path) -> None:
    documents.write(tmp_path / "kept.parquet", make_rows())
    task = tasks.read([tmp_path / "kept.parquet"], {"source": "s", "recipe": "none", "label": "topic"})
    assert 0.03 < len(task.test) / 400 < 0.18  # a tenth, give or take five deviations


def test_majority_gives_the_shares_of_training() -> None:
    task = make_task()
    found = tasks.majority(task)
    assert set(found.labels.tolist()) == {0}
    assert found.probabilities.sum(axis=1) == pytest.approx(1)
    scores = tasks.evaluate(task, found)
    assert scores["accuracy"] == pytest.approx((task.test.labels == 0).mean(), abs=1e-6)
    assert scores["roc_auc_macro"] == 0.5
    assert scores["recall_macro"] == pytest.approx(1 / 3, abs=1e-6)


def test_the_bag_of_words_learns_words() -> None:
    task = make_task()
    assert tasks.evaluate(task, tasks.bag_of_words(task))["accuracy"] > 0.97


def test_the_bag_of_words_reads_chinese() -> None:
    signs = {"music": "琴歌曲", "rocks": "石岩砂", "trees": "林松柏"}
    generator = np.random.default_rng(1)
    rows = []
    for place in range(300):
        name = list(signs)[place % 3]
        text = "".join(generator.choice(list(signs[name] + "的一是不了人我在有他" * 2), size=12)) + f"{place}"
        rows.append(Document(f"s/f#{place}", "s", text, documents.key_of(text), json.dumps({"topic": name})))
    task = make_task(rows)
    assert tasks.evaluate(task, tasks.bag_of_words(task))["accuracy"] > 0.8


def test_the_probe_finds_what_the_features_hold_whatever_their_scale() -> None:
    task = make_task()
    scores = tasks.evaluate(task, tasks.linear_probe(task, Features(), Words()))
    assert scores["accuracy"] > 0.97
    assert scores["roc_auc_macro"] > 0.99


def test_the_probe_finds_nothing_in_noise() -> None:
    task = make_task()
    scores = tasks.evaluate(task, tasks.linear_probe(task, Features(informative=False), Words()))
    assert 0.35 < scores["roc_auc_macro"] < 0.65


def test_the_probe_reads_the_first_tokens_only() -> None:
    task, model = make_task(), Features()
    found = tasks.linear_probe(task, model, Words(), tokens=2)
    assert model.longest == 2
    assert found.chosen["tokens"] == 2


def test_methods_give_the_same_answer_again() -> None:
    task = make_task()
    for solve in (tasks.bag_of_words, lambda given: tasks.linear_probe(given, Features(), Words())):
        assert (solve(task).probabilities == solve(task).probabilities).all()


def test_measures_match_a_count_by_hand() -> None:
    truth, guess = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 1]
    part = tasks.Part([f"d{place}" for place in range(6)], ["text"] * 6, np.array(truth), np.zeros(6, dtype=bool))
    task = tasks.Labelled(["a", "b", "c"], part, part, {})
    scores = tasks.evaluate(task, tasks.Prediction(np.eye(3)[guess], {}))
    assert scores["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert scores["accuracy"] == 0.5
    assert scores["precision_macro"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3, abs=1e-6)
    assert scores["recall_macro"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-6)
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 2 / 5 + 0) / 3, abs=1e-6)
    # the area is the share of pairs (one of the class, one not) in the right order, ties a half
    areas = [(2 * 2 + 2 * 1 / 2 + 1 * 2 / 2) / 9, (1 * 2 + 1 * 2 / 2 + 1 * 2 / 2) / 8, 0.5]
    assert scores["roc_auc_macro"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert scores["by_class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "roc_auc": 0.5, "documents": 1}


def test_wilson_matches_published_values() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


@given(total=st.integers(1, 500), data=st.data())
@settings(max_examples=100)
def test_wilson_holds_the_share_and_stays_in_bounds(total: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, total))
    low, high = wilson(right, total)
    assert 0 <= low <= right / total + 1e-12
    assert right / total - 1e-12 <= high <= 1


def test_roc_curves_rise_and_enclose_the_area() -> None:
    task = make_task()
    rough = np.random.default_rng(0).dirichlet([1, 1, 1], size=len(task.test))
    found = tasks.Prediction((rough + 0.5 * np.eye(3)[task.test.labels]) / 1.5, {})
    curves = tasks.roc_curves(task, found)
    for curve in curves.values():
        assert len(curve["fpr"]) == len(curve["tpr"]) == 101
        assert (np.diff(curve["tpr"]) >= 0).all()
        assert curve["tpr"][-1] == 1
    area = np.trapezoid(curves["macro"]["tpr"], curves["macro"]["fpr"])
    assert area == pytest.approx(tasks.evaluate(task, found)["roc_auc_macro"], abs=0.02)


def test_a_perfect_answer_has_a_perfect_curve() -> None:
    task = make_task()
    perfect = tasks.Prediction(np.eye(3)[task.test.labels], {})
    assert set(tasks.roc_curves(task, perfect)["micro"]["tpr"]) == {1.0}
    assert tasks.evaluate(task, perfect)["roc_auc_macro"] == 1


def test_examples_show_both_sides_and_short_texts() -> None:
    task = make_task()
    guess = task.test.labels.copy()
    guess[:5] = (guess[:5] + 1) % 3
    shown = tasks.examples(task, tasks.Prediction(0.9 * np.eye(3)[guess], {}), 6)
    assert [row["label"] == row["predicted"] for row in shown] == [True] * 3 + [False] * 3
    assert all(len(row["text"]) <= 200 and row["probability"] == 0.9 for row in shown)


def test_predictions_are_written_a_row_a_document_and_method(tmp_path: Path) -> None:
    task = make_task()
    tasks.write_predictions(tmp_path / "predictions.parquet", task, {"majority": tasks.majority(task)})
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    assert table["id"] == task.test.ids
    assert set(table["predicted"]) == {"music"}
    assert table["label"] == [task.classes[label] for label in task.test.labels]
