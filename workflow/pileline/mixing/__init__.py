"""Mixing: cleaned documents less duplicates become a corpus of a weighted, shuffled train split and a holdout.

Split. A document's key alone decides it (`documents.split_of`), so every corpus has the same holdout.

Epochs. How often a source is repeated is said outright or follows from shares (`epochs`); a document stands
floor(epochs) times in the train split, and a share epochs - floor(epochs) of them, chosen by a hash of the key, once
more. The effective size of a source is its bytes in the train split, copies counted (Gao et al., 2020, table 1).

Shuffle. Each copy has a place, a hash of seed, id and copy; the train split is sorted by it (`piles`). Places do not
depend on the order of reading, so neither does the corpus: it has the same bytes however its sources are cut in parts
and however many processes read them.

The stage, in order: `tables` and `Removals.read` find the inputs, `survey` sizes the sources, `resolve` turns weights
into epochs, `mix` writes the splits and the list of what left here, `metrics` tells.
"""

from pileline.mixing.deal import REMOVED_SCHEMA, SPLITS
from pileline.mixing.epochs import Epochs, resolve
from pileline.mixing.passes import Mix, mix, survey, tables
from pileline.mixing.plan import BOILERPLATE, CAP, TASK, WEIGHT, MixingError, Plan
from pileline.mixing.removals import Removals
from pileline.mixing.summary import metrics, table
from pileline.mixing.supply import Supply

__all__ = [
    "BOILERPLATE",
    "CAP",
    "REMOVED_SCHEMA",
    "SPLITS",
    "TASK",
    "WEIGHT",
    "Epochs",
    "Mix",
    "MixingError",
    "Plan",
    "Removals",
    "Supply",
    "metrics",
    "mix",
    "resolve",
    "survey",
    "table",
    "tables",
]
