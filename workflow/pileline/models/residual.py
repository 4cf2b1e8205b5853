"""A transformer that corrects what can be counted: residual learning (Li et al. 2022, "N-gram is back").

    logits(w) = f(w) + (1 + a_0) ln p_ngram(w | last n-1 tokens) + sum_k a_k ln(1 + c_k(w))

A network needs many passes to learn two things that counting knows at once. Which token follows which: that is the
n-gram model's p. And what this document said before, which a text tends to say again (the cache models of Kuhn &
De Mori 1990; a large transformer grows "induction heads" for it, Olsson et al. 2022): c_1(w) counts w in the document
so far, and c_k(w) how often it followed the last k - 1 tokens there. f and the weights a are the network's. All start
at 0: before the first step this is the n-gram model, and every step goes to what is missing there. The weights
depend on the final hidden state and on how often the n-gram model had seen the context.

The n-gram model must not have counted the text that the network learns to correct it on, or it would look far
better there than it is. So the stream is divided: the network trains on its first `share`, the n-gram model
counts the rest, without copies of the former, and counts everything once the network has trained (as in stacking,
Wolpert 1992: combine models by what they say of data they did not learn from).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .interface import Floats, ModelError, Stream, Tokens, read_configuration
from .neural import LOGITS_AT_ONCE, State, predicted
from .ngram import NGram, document_hashes
from .transformer import Decoder, Shape, Transformer


def repeats(tokens: Tensor, end: int, vocabulary: int, levels: int, last: int) -> list[Tensor]:
    """Counts [batch, last, vocabulary] of what the document held so far, at the last places of tokens [batch, length].

    The first level counts each token up to and with this place, the next what followed this token before, the next
    what followed these two, and so on. Documents begin with `end`; nothing before it counts.
    """
    batch, length = tokens.shape
    here = slice(max(length - last - max(levels - 2, 0), 0), None)  # the longest match of the first begins so far back
    place = torch.arange(length, device=tokens.device)
    document = (tokens == end).cumsum(1)
    together = (document[:, here, None] == document[:, None, :]) & (place[here, None] >= place)
    alike = together & (place[here, None] > place) & (tokens[:, here, None] == tokens[:, None, :])
    following = F.pad(tokens[:, 1:], (0, 1))
    counts, match = [], alike
    for level in range(levels):
        if level > 1:  # alike here, and one place before in both
            match = alike & F.pad(match[:, :-1, :-1], (1, 0, 1, 0))
        row, at, there = (match if level else together)[:, -last:].nonzero(as_tuple=True)
        found = (following if level else tokens)[row, there]
        count = torch.zeros(batch * last * vocabulary, device=tokens.device)
        count.scatter_add_(0, (row * last + at) * vocabulary + found, torch.ones_like(row, dtype=count.dtype))
        counts.append(count.view(batch, last, vocabulary))
    return counts


class Corrected(nn.Module):
    """The network: a decoder whose logits are added to what counting says, each part times a learned weight."""

    def __init__(self, decoder: Decoder, ngram: NGram, cache: int) -> None:
        super().__init__()
        self.decoder, self.cache = decoder, cache
        self.weights = nn.Linear(decoder.shape.width + ngram.order, 1 + cache)
        self.ngram = ngram  # not a module: it has no gradient and is saved by itself

    def initialize(self, generator: torch.Generator) -> None:
        self.decoder.initialize(generator)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def hidden(self, tokens: Tensor) -> Tensor:
        return self.decoder.hidden(tokens)

    def extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        return self.decoder.extend(tokens, state)

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Logits [batch, scored, vocabulary] in float32 after the last places of tokens [batch, length].

        `hidden` [batch, scored, width] are the states of these places.
        """
        skip = tokens.size(1) - hidden.size(1)
        first = max(skip - self.ngram.order, 0)  # the n-gram model needs no more before the first scored place
        counted = self.ngram.distributions(tokens[:, first:].cpu().numpy())
        shape = (tokens.size(0), tokens.size(1) - first, -1)
        chances, evidence = (torch.from_numpy(x).to(tokens.device).view(shape)[:, skip - first :] for x in counted)
        with torch.autocast(tokens.device.type, enabled=False):
            weights = self.weights(torch.cat((hidden.float(), evidence), dim=-1))
        logits = torch.addcmul(self.decoder.logits(hidden), 1 + weights[..., :1], chances.log())
        caches = repeats(tokens, self.ngram.end, self.ngram.vocabulary_size, self.cache, hidden.size(1))
        for level, count in enumerate(caches, 1):
            logits = torch.addcmul(logits, weights[..., level : level + 1], count.log1p())
        return logits

    def log_likelihood(self, hidden: Tensor, tokens: Tensor, targets: Tensor) -> Tensor:
        """Natural-log probability of each target [batch, scored], flat; a few sequences at a time."""
        rows = max(LOGITS_AT_ONCE // (self.ngram.vocabulary_size * tokens.size(1)), 1)
        parts = zip(*(torch.split(whole, rows) for whole in (hidden, tokens, targets)), strict=True)
        return -torch.cat(
            [F.cross_entropy(self.logits(h, x).flatten(0, 1), y.flatten(), reduction="none") for h, x, y in parts]
        )

    @property
    def in_nats(self) -> bool:
        return True

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats a token; both [batch, length]. Targets of -100 are padding and do not count."""
        return -self.log_likelihood(self.hidden(tokens), tokens, targets).sum() / predicted(targets)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.decoder.parameter_groups()
        return groups | {"vectors": [*groups["vectors"], *self.weights.parameters()]}


class Residual(Transformer):
    """Settings: those of a transformer, and

    order  of the n-gram model
    cache  levels of the document's own counts: 0 none, 1 tokens, 2 what followed the last one, ...
    share  the network's part of the text
    """

    kind: ClassVar[str] = "residual"

    def __init__(self, shape: Shape, ngram: NGram, cache: int = 4, share: float = 0.125, seed: int = 0) -> None:
        if not 0 < share < 1:
            raise ModelError(f"share {share} of the residual model is not between 0 and 1")
        if not 0 <= cache <= shape.context:
            raise ModelError(f"cache {cache} of the residual model is not between 0 and its context {shape.context}")
        self.ngram, self.cache, self.share = ngram, cache, share
        super().__init__(shape, ngram.vocabulary_size, ngram.end, seed)

    def make(self) -> Any:
        return Corrected(super().make(), self.ngram, self.cache)

    @classmethod
    def build(cls, settings: dict[str, Any], vocabulary_size: int, end: int, seed: int = 0) -> Residual:
        """A new model from a `models` entry; it needs `prepare` before it can say anything."""
        shape = Shape(**{k: settings[k] for k in Transformer.setting_names() & set(settings)})
        own = {key: settings[key] for key in ("cache", "share") if key in settings}
        return cls(shape, NGram(settings.get("order", 4), vocabulary_size, end), seed=seed, **own)

    @classmethod
    def setting_names(cls) -> set[str]:
        return Transformer.setting_names() | {"order", "cache", "share"}

    # -------------------------------------------------------------------------------------------- training

    def prepare(self, stream: Stream) -> int:
        """Count the stream behind the network's share, without documents that the share has too."""
        tokens = np.asarray(stream.read(0, len(stream)), dtype=np.int64)
        lengths, hashes = document_hashes(tokens, self.end)
        ends = np.cumsum(lengths)
        mine = ends <= max(self.share * len(tokens), lengths[0] if len(lengths) else 0)
        if mine.all():
            raise ModelError(f"{len(lengths)} documents are too few for a share of {self.share}; add text")
        other = ~mine & ~np.isin(hashes, hashes[mine])
        self.ngram.fit(tokens[np.repeat(other, lengths)])
        return int(ends[mine][-1])

    def complete(self, stream: Stream) -> None:
        """Count everything: more text makes the n-gram model better and its errors not different."""
        self.ngram.fit(stream.read(0, len(stream)))

    # --------------------------------------------------------------------------------------------- scoring

    @torch.inference_mode()
    def score(self, documents: list[Tokens]) -> list[Floats]:
        """See `LanguageModel.score`; by windows, as a transformer."""
        inputs = [np.append(self.end, document)[:-1] for document in documents]
        scores = [np.zeros(len(document)) for document in documents]
        for batch, states in self._run(inputs):
            for window, part in zip(batch, states, strict=True):
                seen = inputs[window.document][window.start : window.stop]
                wanted = documents[window.document][window.scored : window.stop]
                rows = (torch.from_numpy(np.asarray(x, dtype=np.int64)[None]).to(self.device) for x in (seen, wanted))
                found = self.network.log_likelihood(part[None], *rows)
                scores[window.document][window.scored : window.stop] = found.double().cpu().numpy()
        return scores

    def _chances(self, hidden: Tensor, tokens: Any, start: int) -> Floats:
        """See `Neural._chances`; counts what the tokens repeat and looks up what may follow the last of them."""
        logits = self.network.logits(hidden[:, -1:], self._row(tokens[start:]))
        return np.asarray(torch.softmax(logits[0, 0], dim=-1, dtype=torch.float64).cpu().numpy())

    # ----------------------------------------------------------------------------------------------- files

    @property
    def parameters_count(self) -> int:
        return super().parameters_count + self.ngram.parameters_count

    def describe(self) -> list[tuple[str, tuple[int, ...], int]]:
        return super().describe() + self.ngram.describe()

    def configuration(self) -> dict[str, Any]:
        return super().configuration() | {"order": self.ngram.order, "cache": self.cache, "share": self.share}

    def save(self, folder: str | Path) -> None:
        """Write the network as a transformer does, and the n-gram model to `ngram/`."""
        super().save(folder)
        (Path(folder) / "ngram").mkdir(exist_ok=True)
        self.ngram.save(Path(folder) / "ngram")

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Residual:
        """Read what `save` wrote, onto `device`; the n-gram model stays on the CPU."""
        saved = read_configuration(Path(folder))
        model = cls(Shape(**saved["shape"]), NGram.load(Path(folder) / "ngram"), saved["cache"], saved["share"])
        model._load_network(Path(folder))
        return model.to(device)
