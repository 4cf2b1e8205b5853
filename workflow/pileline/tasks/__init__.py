"""Tasks: what a model's features are good for, on labelled documents, beside simple baselines.

`read` cuts a labelled source in train and test, `solve` fits a method and `evaluate` scores it.
"""

from pileline.tasks.classification import (
    Prediction,
    bag_of_words,
    evaluate,
    examples,
    linear_probe,
    majority,
    roc_curves,
    write_predictions,
)
from pileline.tasks.data import DEFAULTS, Labelled, Part, TaskError, read

__all__ = [
    "DEFAULTS",
    "Labelled",
    "Part",
    "Prediction",
    "TaskError",
    "bag_of_words",
    "evaluate",
    "examples",
    "linear_probe",
    "majority",
    "read",
    "roc_curves",
    "write_predictions",
]
