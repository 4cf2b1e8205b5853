"""Evaluation: what a trained model is worth, on text that no corpus trained on."""

from pileline.evaluation.bits import EvaluationError, Scores, bootstrap, score, summarize
from pileline.evaluation.samples import samples

__all__ = ["EvaluationError", "Scores", "bootstrap", "samples", "score", "summarize"]
