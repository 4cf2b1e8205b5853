"""An n-gram model: interpolated modified Kneser-Ney over tokens (Chen & Goodman 1999, equations 13 to 17).

The next token's probability comes from how often it followed the last n-1 tokens, discounted, and what the
discounts took is given to the same question asked of one token less:

    p_n(w | h) = max(a(hw) - D(a(hw)), 0) / sum_v a(hv) + b(h) p_(n-1)(w | h without its oldest token)

with b(h) such that it sums to one, down to the uniform 1/V. The counts a are of the corpus for the longest
n-grams, and for shorter ones *continuation counts*: how many different tokens stand before hw, since a shorter
n-gram is asked only where the longer one was not seen. Discounts D1, D2, D3+ (for counts one, two, more) are
estimated from how many n-grams were seen once, twice, three and four times.

How it is computed. The n-grams of a level are one sorted array of whole numbers, `id of the first n-1 tokens * V
+ last token`: equal keys are one n-gram, its place in the array is its id, and those that share a context stand
side by side. Counting is a sort, a look-up is a binary search, and no Python loop runs over tokens. A level takes
12 bytes an n-gram in memory; counting about 1 s a million tokens and 60 bytes a token at its peak.

`end` stands before each document: n-grams may begin or end with it but not reach over it, and those that begin
with it have nothing before them, so they keep their corpus counts (as in KenLM, Heafield et al. 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .interface import Floats, LanguageModel, ModelError, Tokens, read_configuration, write_configuration

Integers = npt.NDArray[np.int64]
MAXIMUM_ORDER = 5
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # KenLM's --discount_fallback, for counts too few to estimate them
SCORED_AT_ONCE = 1_000_000  # tokens; bounds the memory of `score`


@dataclass
class Level:
    """The n-grams of one length, by key, with what scoring needs. Contexts are those of the level below."""

    keys: Integers  # [n-grams], sorted: context id * V + last token
    counts: Integers  # [n-grams]: a(hw), of the corpus or of continuations
    discounts: tuple[float, float, float]
    total: Floats  # [contexts]: sum of the counts
    backoff: Floats  # [contexts]: b(h), the share left to the level below; 1 where the context was never seen

    @classmethod
    def of(cls, keys: Integers, counts: Integers, contexts: int, vocabulary: int) -> Level:
        """Discounts, totals and back-off shares from the counts (Chen & Goodman, equations 15 to 17)."""
        discounts = estimate_discounts(counts)
        context = keys // vocabulary
        total = np.bincount(context, counts, contexts)
        taken = np.bincount(context, discount(counts, discounts), contexts)
        backoff = np.divide(taken, total, out=np.ones(contexts), where=total > 0)
        return cls(keys, counts, discounts, total, backoff)


@dataclass
class Followers:
    """The tokens seen after each context of a level, with their discounted shares; a context's lie side by side."""

    starts: Integers  # [contexts + 1]
    tokens: npt.NDArray[np.int32]  # [n-grams]
    shares: npt.NDArray[np.float32]  # [n-grams]

    @classmethod
    def of(cls, level: Level, vocabulary: int) -> Followers:
        context = level.keys // vocabulary
        starts = np.append(0, np.cumsum(np.bincount(context, minlength=len(level.total))))
        shares = (level.counts - discount(level.counts, level.discounts)) / level.total[context]
        return cls(starts, (level.keys - context * vocabulary).astype(np.int32), shares.astype(np.float32))


def estimate_discounts(counts: Integers) -> tuple[float, float, float]:
    """D1, D2, D3+ from n1..n4, the numbers of n-grams with counts one to four (Chen & Goodman, equation 17)."""
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == k)) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= k for k, d in enumerate(found, 1)) else FALLBACK_DISCOUNTS


def discount(counts: Integers, discounts: tuple[float, float, float]) -> Floats:
    """D(count) for each count; nothing from a count of zero."""
    return np.array([0.0, *discounts])[np.minimum(counts, 3)]


def unique_documents(tokens: Integers, end: int) -> Integers:
    """The stream with each document once, in order of first appearance.

    Repeating a source (its epochs) doubles counts without new evidence: n-grams seen once become twice, and the
    discounts, which rest on how many were seen once, break. Documents are told by a 64-bit hash.
    """
    lengths, hashes = document_hashes(tokens, end)
    keep = np.zeros(len(lengths), dtype=bool)
    keep[np.unique(hashes, return_index=True)[1]] = True
    return np.asarray(tokens[np.repeat(keep, lengths)])


def unique(keys: Integers) -> tuple[Integers, Integers, Integers, Integers]:
    """The different `keys` in order; of each, where it first stands; of every place, its key's number; and how often.

    As `np.unique`, about twice as fast: where they fit 64 bits together, keys carry their places through one sort of
    whole numbers, which processors do many at a time, while a sort of places fetches two keys for each comparison.
    """
    bits = len(keys).bit_length()
    if len(keys) and keys.min() >= 0 and int(keys.max()).bit_length() + bits < 64:
        packed = keys << bits
        packed += np.arange(len(keys))
        packed.sort()
        places = packed & ((1 << bits) - 1)
        ordered = np.right_shift(packed, bits, out=packed)
    else:
        places = np.argsort(keys, kind="stable")
        ordered = keys[places]
    new = np.append(True, ordered[1:] != ordered[:-1])[: len(keys)]
    starts = np.flatnonzero(new)
    inverse = np.empty_like(places)
    inverse[places] = np.cumsum(new) - 1
    return ordered[starts], places[starts], inverse, np.diff(np.append(starts, len(keys)))


def document_hashes(tokens: Integers, end: int) -> tuple[Integers, npt.NDArray[np.uint64]]:
    """Length (with its `end`) and 64-bit hash of each document of a stream; what precedes the first `end` is one."""
    starts = np.union1d(np.flatnonzero(tokens == end), [0]) if len(tokens) else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, len(tokens)))
    if not len(starts):
        return lengths, np.zeros(0, dtype=np.uint64)
    place = np.arange(len(tokens)) - np.repeat(starts, lengths)
    mixed = _mix(tokens.astype(np.uint64) + (place.astype(np.uint64) << np.uint64(32)))
    return lengths, _mix(np.add.reduceat(mixed, starts) + lengths.astype(np.uint64))


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finalizer (Steele et al. 2014): bits well spread, so that sums do not collide."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class NGram(LanguageModel):
    """Settings: `order` (1 to 5) and `repeats` ("once": a repeated document counts once; "all": as often as it is)."""

    kind: ClassVar[str] = "ngram"
    learns_by: ClassVar[str] = "counts"

    def __init__(self, order: int, vocabulary_size: int, end: int, repeats: str = "once") -> None:
        if not 1 <= order <= MAXIMUM_ORDER:
            raise ModelError(f"order {order} of the n-gram model is not in 1..{MAXIMUM_ORDER}")
        if repeats not in ("once", "all"):
            raise ModelError(f"repeats '{repeats}' of the n-gram model is neither 'once' nor 'all'")
        self.order, self.vocabulary_size, self.end, self.repeats = order, vocabulary_size, end, repeats
        self.context = order - 1
        self.levels: list[Level] = []
        self._made: list[Followers] = []

    @classmethod
    def build(cls, settings: dict[str, Any], vocabulary_size: int, end: int, seed: int = 0) -> NGram:
        """An empty model from a `models` entry. It has no random part: `seed` is not used."""
        return cls(settings.get("order", 4), vocabulary_size, end, settings.get("repeats", "once"))

    @classmethod
    def setting_names(cls) -> set[str]:
        return {"order", "repeats"}

    @property
    def parameters_count(self) -> int:
        return sum(len(level.counts) for level in self.levels)

    # ---------------------------------------------------------------------------------------- counting

    def fit(self, stream: Tokens) -> int:
        """Count a stream of documents, each with its leading `end`; returns the number of tokens counted."""
        tokens = np.asarray(stream, dtype=np.int64)
        if not len(tokens) or tokens.min() < 0 or tokens.max() >= self.vocabulary_size:
            raise ModelError(
                f"the n-gram model needs tokens from 0 to {self.vocabulary_size - 1}, got "
                + (f"{tokens.min()} to {tokens.max()}" if len(tokens) else "none; are the shards empty?")
            )
        if self.repeats == "once":
            tokens = unique_documents(tokens, self.end)
        self.levels, self._made = [], []
        ids = np.zeros(len(tokens) + 1, dtype=np.int64)  # of the n-gram that ends at each place, shifted by one
        reach = _reach(tokens, self.end)
        places = np.arange(len(tokens))
        keys = raw = np.zeros(1, dtype=np.int64)  # of level 0: the empty n-gram
        for n in range(1, self.order + 1):
            places = places[reach[places] >= n]
            longer, first, inverse, times = unique(ids[places] * self.vocabulary_size + tokens[places])
            if n > 1:  # different n-grams that end in an (n-1)-gram: as many tokens stand before it
                self._add_level(keys, raw, np.bincount(ids[1:][places[first]], minlength=len(keys)))
            ids[1:][places] = inverse
            keys, raw = longer, times
        self._add_level(keys, raw, np.zeros_like(raw))
        return len(tokens)

    def _add_level(self, keys: Integers, raw: Integers, continuations: Integers) -> None:
        """A level with continuation counts, but corpus counts where nothing can stand before (order, `end`)."""
        counts = np.where(continuations > 0, continuations, raw)
        contexts = len(self.levels[-1].keys) if self.levels else 1
        self.levels.append(Level.of(keys, counts, contexts, self.vocabulary_size))

    # ----------------------------------------------------------------------------------------- scoring

    def score(self, documents: list[Tokens]) -> list[Floats]:
        """See `LanguageModel.score`; exact, without a window: only the last n-1 tokens matter."""
        scores: list[Floats] = []
        chunk: list[Tokens] = []
        for document in documents:
            chunk.append(document)
            if sum(map(len, chunk)) >= SCORED_AT_ONCE:
                scores += self._score(chunk)
                chunk = []
        return scores + self._score(chunk)

    def _score(self, documents: list[Tokens]) -> list[Floats]:
        if not documents:
            return []
        lengths = np.array([len(document) + 1 for document in documents])
        starts = np.cumsum(lengths) - lengths
        tokens = np.full(int(lengths.sum()), self.end, dtype=np.int64)
        inside = np.ones(len(tokens), dtype=bool)
        inside[starts] = False
        tokens[inside] = np.concatenate(documents) if inside.any() else ()
        begins = np.repeat(starts, lengths)
        chances = self._probabilities(tokens, np.arange(len(tokens)) - begins + 1)
        logarithms = np.log(chances, out=np.zeros_like(chances), where=inside)  # a document's start is not predicted
        return [logarithms[a + 1 : a + n] for a, n in zip(starts, lengths, strict=True)]

    def _probabilities(self, tokens: Integers, reach: Integers) -> Floats:
        """p of each token of a stream given those before it, of which it may see `reach` - 1."""
        chances = np.full(len(tokens), 1.0 / self.vocabulary_size)
        context = np.zeros(len(tokens), dtype=np.int64)  # id of the n-1 tokens before each place, -1: not seen
        for n, level in enumerate(self._ready(), 1):
            if not len(level.keys):  # no document was so long
                break
            asked = np.flatnonzero((reach >= n) & (context >= 0))
            found = _find(level.keys, context[asked] * self.vocabulary_size + tokens[asked])
            counts = np.where(found >= 0, level.counts[found], 0)
            total, backoff = level.total[context[asked]], level.backoff[context[asked]]
            above = np.divide(
                counts - discount(counts, level.discounts), total, out=np.zeros(len(asked)), where=total > 0
            )
            chances[asked] = above + backoff * chances[asked]  # never followed: nothing above, and back-off is 1
            ids = np.full(len(tokens), -1, dtype=np.int64)
            ids[asked] = found
            context = np.append(-1, ids[:-1])
        return chances

    def next_probabilities(self, context: Tokens) -> Floats:
        """See `LanguageModel.next_probabilities`: the same sum for every token at once."""
        history = np.append(self.end, np.asarray(context, dtype=np.int64))
        history = history[np.flatnonzero(history == self.end)[-1] :][-self.order :]
        chances = np.full(self.vocabulary_size, 1.0 / self.vocabulary_size)
        for n, level in enumerate(self._ready(), 1):
            if n - 1 > len(history):  # the document has not so many tokens yet
                break
            node = self._node(history[len(history) - n + 1 :])
            if node < 0 or level.total[node] == 0:
                break
            a, b = np.searchsorted(level.keys, (node * self.vocabulary_size, (node + 1) * self.vocabulary_size))
            counts = level.counts[a:b]
            chances *= level.backoff[node]
            chances[level.keys[a:b] % self.vocabulary_size] += (
                counts - discount(counts, level.discounts)
            ) / level.total[node]
        return chances

    def distributions(self, rows: Tokens) -> tuple[Floats, Floats]:
        """What may follow each place of each row, as arrays that grow fast: for a batch, not for a corpus.

        Rows are token ids [rows, length]; nothing before a row or before its last `end` is seen. Returns float32
        [rows * length, V], each row a distribution, and float32 [rows * length, order], the evidence behind it: the
        logarithm of one plus how often the last 0, 1, ... order - 1 tokens were followed by anything.
        """
        rows = np.asarray(rows, dtype=np.int64)
        places = np.arange(rows.shape[1])
        reach = (places - np.maximum.accumulate(np.where(rows == self.end, places, 0), axis=1) + 1).ravel()
        chances = np.zeros((rows.size, self.vocabulary_size), dtype=np.float32)
        chances += np.float32(1 / self.vocabulary_size)
        evidence = np.zeros((rows.size, self.order), dtype=np.float32)
        node = np.zeros(rows.size, dtype=np.int64)  # id of the last n-1 tokens, -1: not seen
        for n, (level, followers) in enumerate(zip(self._ready(), self._followers(), strict=True), 1):
            seen = np.flatnonzero(node >= 0)
            seen = seen[level.total[node[seen]] > 0]
            contexts = node[seen]
            evidence[seen, n - 1] = np.log1p(level.total[contexts])
            chances[seen] *= level.backoff[contexts, None].astype(np.float32)
            lengths = followers.starts[contexts + 1] - followers.starts[contexts]
            entries = np.repeat(followers.starts[contexts] - np.cumsum(lengths) + lengths, lengths)
            entries += np.arange(len(entries))
            flat = chances.reshape(-1)
            flat[np.repeat(seen * self.vocabulary_size, lengths) + followers.tokens[entries]] += followers.shares[
                entries
            ]
            before = np.append(-1, node[:-1]) if n > 1 else node
            asked = np.flatnonzero((reach >= n) & (before >= 0))
            node = np.full(rows.size, -1, dtype=np.int64)
            node[asked] = _find(level.keys, before[asked] * self.vocabulary_size + rows.reshape(-1)[asked])
        return chances, evidence

    def _followers(self) -> list[Followers]:
        """Each level's contexts with what follows them; made when first asked for."""
        if len(self._made) != len(self.levels):
            self._made = [Followers.of(level, self.vocabulary_size) for level in self._ready()]
        return self._made

    def _node(self, tokens: Tokens) -> int:
        """The id of an n-gram, 0 for the empty one, -1 if it was not seen."""
        node = np.zeros(1, dtype=np.int64)
        for level, token in zip(self.levels, tokens, strict=False):
            node = _find(level.keys, node * self.vocabulary_size + int(token))
            if node[0] < 0:
                return -1
        return int(node[0])

    def _ready(self) -> list[Level]:
        if not self.levels:
            raise ModelError("the n-gram model has no counts yet: call fit, or load a trained one")
        return self.levels

    # ------------------------------------------------------------------------------------------- files

    def describe(self) -> list[tuple[str, tuple[int, ...], int]]:
        return [(f"{n}-grams", (len(level.keys),), len(level.keys)) for n, level in enumerate(self.levels, 1)]

    def save(self, folder: str | Path) -> None:
        """Write `ngram.npz` (last tokens and counts in few bytes, children of each context) and `config.json`."""
        folder = Path(folder)
        arrays: dict[str, Any] = {}
        for n, level in enumerate(self._ready(), 1):
            children = np.bincount(level.keys // self.vocabulary_size, minlength=len(level.total))
            arrays[f"tokens{n}"] = _narrow(level.keys % self.vocabulary_size)
            arrays[f"counts{n}"] = _narrow(level.counts)
            arrays[f"children{n}"] = _narrow(children)
        np.savez(folder / "ngram.npz", **arrays)
        write_configuration(folder, self)

    def configuration(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "order": self.order,
            "vocabulary_size": self.vocabulary_size,
            "end": self.end,
            "repeats": self.repeats,
            "discounts": [list(level.discounts) for level in self.levels],
        }

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> NGram:
        """Read what `save` wrote. It computes on the CPU whatever the device."""
        folder = Path(folder)
        saved = read_configuration(folder)
        model = cls(saved["order"], saved["vocabulary_size"], saved["end"], saved["repeats"])
        with np.load(folder / "ngram.npz", allow_pickle=False) as arrays:
            for n in range(1, model.order + 1):
                children = arrays[f"children{n}"].astype(np.int64)
                context = np.repeat(np.arange(len(children)), children)
                keys = context * model.vocabulary_size + arrays[f"tokens{n}"].astype(np.int64)
                counts = arrays[f"counts{n}"].astype(np.int64)
                model.levels.append(Level.of(keys, counts, len(children), model.vocabulary_size))
        return model


def _reach(tokens: Integers, end: int) -> Integers:
    """How long an n-gram that ends at each place can be: back to the last `end` before it, which it may include."""
    places = np.arange(len(tokens))
    last_end = np.maximum.accumulate(np.where(tokens == end, places, -1))
    before = np.append(-1, last_end[:-1])  # the last `end` strictly before each place; -1: the stream's start
    return np.asarray(places - np.maximum(before, 0) + 1)


def _find(keys: Integers, wanted: Integers) -> Integers:
    """The place of each wanted key in the sorted keys, or -1."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.asarray(np.where(keys[place] == wanted, place, -1))


def _narrow(values: Integers) -> npt.NDArray[Any]:
    """The same whole numbers in the smallest unsigned type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
