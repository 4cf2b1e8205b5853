"""Classification: a linear probe on a model's frozen features, and two baselines that need no model.

A linear probe (Alain and Bengio 2016, arXiv:1610.01644) asks what a representation h(x) holds that a linear
classifier can read off:

    p(class c | x) = softmax(W z + b)_c,    z = (h(x) - mean) / deviation

W is fitted by the regularised likelihood, everything below it stays as pretraining left it. The strength of the
regularisation C is chosen on a fifth of the training documents, then W is fitted on all of them. The bag of words
(TF-IDF and the same classifier, chosen in the same way) is what a probe has to beat to be worth a language model,
the majority class what any method has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pileline.tasks.data import DEFAULTS, Labelled

PROBE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
WORD_STRENGTHS = (4.0, 16.0, 64.0, 256.0, 1024.0)
WORDS = 20_000  # most frequent words and pairs of words that the bag of words knows
# A Han character, kana or hangul syllable is a word; elsewhere a run of letters and digits is.
WORD = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
ITERATIONS = 300
DIGITS = 6  # that metrics are rounded to: sums differ in the last ones with the number of threads
CURVE = np.linspace(0.0, 1.0, 101)

Features = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


class Featurizer(Protocol):
    """What a probe needs of a model."""

    def features(self, documents: list[npt.NDArray[Any]]) -> Features: ...


class Encoder(Protocol):
    """What a probe needs of a tokenizer."""

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[npt.NDArray[np.int32]]: ...


@dataclass(frozen=True)
class Prediction:
    """A method's answer: probabilities [test documents, classes], and the settings that it chose."""

    probabilities: Matrix
    chosen: dict[str, Any]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """[test documents] the most probable class of each; of equal ones the first."""
        found: npt.NDArray[np.int64] = np.argmax(self.probabilities, axis=1)
        return found


def majority(task: Labelled) -> Prediction:
    """The classes' shares in training, for every document."""
    shares = np.bincount(task.train.labels, minlength=len(task.classes)) / len(task.train)
    return Prediction(np.tile(shares, (len(task.test), 1)), {})


def bag_of_words(task: Labelled) -> Prediction:
    """Logistic regression on TF-IDF of words and pairs of words (sublinear counts, length one)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    def vectorize(rows: npt.NDArray[np.bool_], others: list[str]) -> tuple[Any, Any]:
        # Fitted on the given training documents alone: words of the others must not count.
        made = TfidfVectorizer(
            token_pattern=WORD, ngram_range=(1, 2), min_df=2, max_features=WORDS, sublinear_tf=True, dtype=np.float32
        )
        return made.fit_transform(_chosen(task.train.texts, rows)), made.transform(others)

    held = task.train.validation
    fitting, checking = vectorize(~held, _chosen(task.train.texts, held))
    strength = _choose(fitting, checking, task, WORD_STRENGTHS)
    training, testing = vectorize(np.ones(len(held), dtype=bool), task.test.texts)
    fitted = _fit(training, task.train.labels, strength)
    return Prediction(_probabilities(fitted, testing, len(task.classes)), {"C": strength, "words": training.shape[1]})


def linear_probe(
    task: Labelled, model: Featurizer, tokenizer: Encoder, tokens: int = DEFAULTS["tokens"], threads: int = 1
) -> Prediction:
    """Logistic regression on the model's features of each document's first `tokens` tokens.

    Features are standardized by the training documents' mean and deviation. The model runs over all documents
    once, which takes nearly all of the time and grows with `tokens`.
    """
    training, testing = (
        model.features([found[:tokens] for found in tokenizer.encode_batch(part.texts, threads)])
        for part in (task.train, task.test)
    )
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    deviation[deviation == 0] = 1.0
    training, testing = (training - mean) / deviation, (testing - mean) / deviation
    held = task.train.validation
    strength = _choose(training[~held], training[held], task, PROBE_STRENGTHS)
    fitted = _fit(training, task.train.labels, strength)
    chosen = {"C": strength, "features": training.shape[1], "tokens": tokens}
    return Prediction(_probabilities(fitted, testing, len(task.classes)), chosen)


def _chosen(texts: list[str], rows: npt.NDArray[np.bool_]) -> list[str]:
    return [text for text, wanted in zip(texts, rows, strict=True) if wanted]


def _fit(inputs: Any, labels: npt.NDArray[np.int64], strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # One thread: products this small gain nothing from more, and sums then round the same on every machine.
    with threadpool_limits(limits=1):
        return LogisticRegression(C=strength, max_iter=ITERATIONS).fit(inputs, labels)


def _probabilities(fitted: Any, inputs: Any, classes: int) -> Matrix:
    """[inputs, classes] probabilities; 0 for a class that the classifier has not seen."""
    made = np.zeros((inputs.shape[0], classes))
    made[:, fitted.classes_] = fitted.predict_proba(inputs)
    return made


def _choose(fitting: Any, checking: Any, task: Labelled, strengths: Sequence[float]) -> float:
    """The strength with the best log likelihood of the validation part; the middle one if there is no such part."""
    held = task.train.validation
    seen = np.unique(task.train.labels[~held])
    if not held.any() or len(seen) < 2:
        return strengths[len(strengths) // 2]
    wanted = task.train.labels[held]
    best, found = strengths[0], -math.inf
    for strength in strengths:
        fitted = _fit(fitting, task.train.labels[~held], strength)
        likely = _probabilities(fitted, checking, len(task.classes))[np.arange(len(wanted)), wanted]
        score = float(np.log(np.maximum(likely, 1e-12)).mean())
        if score > found:
            best, found = strength, score
    return best


def wilson(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): holds up where the share is near 0 or 1, or the total small."""
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def evaluate(task: Labelled, predicted: Prediction) -> dict[str, Any]:
    """Accuracy with its 95 % interval; precision, recall, F1 and one-vs-rest ROC area, each the mean over classes.

    `confusion` [true class][predicted class] counts documents; `by_class` has the same measures for each class.
    A class that is never predicted has precision 0.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

    truth, labels, classes = task.test.labels, predicted.labels, len(task.classes)
    right = int((truth == labels).sum())
    scores = precision_recall_fscore_support(truth, labels, labels=range(classes), zero_division=0)
    areas = [roc_auc_score(truth == number, predicted.probabilities[:, number]) for number in range(classes)]
    return {
        "accuracy": round(right / len(truth), DIGITS),
        "interval": [round(bound, DIGITS) for bound in wilson(right, len(truth))],
        **{f"{name}_macro": _mean(scores[place]) for place, name in enumerate(("precision", "recall", "f1"))},
        "roc_auc_macro": _mean(areas),
        "confusion": confusion_matrix(truth, labels, labels=range(classes)).tolist(),
        "by_class": {
            name: {
                "precision": round(float(scores[0][place]), DIGITS),
                "recall": round(float(scores[1][place]), DIGITS),
                "f1": round(float(scores[2][place]), DIGITS),
                "roc_auc": round(float(areas[place]), DIGITS),
                "documents": int(scores[3][place]),
            }
            for place, name in enumerate(task.classes)
        },
        "chosen": predicted.chosen,
    }


def _mean(values: Any) -> float:
    return round(float(np.mean(values)), DIGITS)


def roc_curves(task: Labelled, predicted: Prediction) -> dict[str, dict[str, list[float]]]:
    """Receiver operating characteristic: "macro" (mean of the classes' curves) and "micro" (all decisions as one).

    Each is {"fpr": false positive rates, "tpr": true positive rates} at 101 even rates; of several true positive
    rates at one false positive rate the largest counts.
    """
    truth = task.test.labels[:, None] == np.arange(len(task.classes))
    every = [_roc(truth[:, number], predicted.probabilities[:, number]) for number in range(len(task.classes))]
    curves = {"macro": np.mean(every, axis=0), "micro": _roc(truth.ravel(), predicted.probabilities.ravel())}
    rates = [round(float(rate), 4) for rate in CURVE]
    return {name: {"fpr": rates, "tpr": [round(float(y), 4) for y in curve]} for name, curve in curves.items()}


def _roc(truth: npt.NDArray[np.bool_], scores: Matrix) -> Matrix:
    from sklearn.metrics import roc_curve

    across, up, _ = roc_curve(truth, scores, drop_intermediate=False)
    top = np.append(across[1:] != across[:-1], True)  # the last point of each vertical run
    curve: Matrix = np.interp(CURVE, across[top], up[top])
    return curve


def examples(task: Labelled, predicted: Prediction, number: int = 8) -> list[dict[str, Any]]:
    """Test documents with label, prediction and its probability: half right, half wrong, the most certain of each."""
    certain = predicted.probabilities.max(axis=1)
    order = np.argsort(-certain, kind="stable")
    right = predicted.labels == task.test.labels
    rows = [place for side in (True, False) for place in order[right[order] == side][: number // 2].tolist()]
    return [
        {
            "text": task.test.texts[place][:200],
            "label": task.classes[task.test.labels[place]],
            "predicted": task.classes[predicted.labels[place]],
            "probability": round(float(certain[place]), 4),
        }
        for place in rows
    ]


def write_predictions(path: str | Path, task: Labelled, predictions: dict[str, Prediction]) -> None:
    """Write a Parquet table: id, label, method, predicted, probability (of the predicted class); a row a method."""
    rows = [
        (task.test.ids[place], task.classes[label], method, task.classes[guess], round(float(chances[guess]), 4))
        for method, found in predictions.items()
        for place, (label, guess, chances) in enumerate(
            zip(task.test.labels, found.labels, found.probabilities, strict=True)
        )
    ]
    names = ("id", "label", "method", "predicted", "probability")
    columns = [list(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path, compression="zstd")
