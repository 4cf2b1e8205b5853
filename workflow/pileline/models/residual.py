"""A transformer that corrects an n-gram model: residual learning (Li et al. 2022, "N-gram is back").

    p(w | context) is proportional to  p_ngram(w | last n-1 tokens)^s  exp f(w | context)

The n-gram model knows which token follows which from one look at the text, for which a network needs many
passes; the network sees the whole context, which the n-gram model cannot. So the network's logits f are *added* to
the n-gram model's logarithms. f starts at 0 and s at 1: before the first step this is the n-gram model, and every
step goes to what is missing there. s depends on the final hidden state and on how much the n-gram model had seen.

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
from .ngram import NGram, document_hashes
from .transformer import LOGITS_AT_ONCE, Decoder, Shape, Transformer, Window


class Corrected(nn.Module):
    """The network: a decoder whose logits are added to an n-gram model's, times a learned scale."""

    def __init__(self, decoder: Decoder, ngram: NGram) -> None:
        super().__init__()
        self.decoder = decoder
        self.scale = nn.Parameter(torch.zeros(decoder.shape.width + ngram.order))
        self.ngram = ngram  # not a module: it has no gradient and is saved by itself

    def initialize(self, seed: int) -> None:
        self.decoder.initialize(seed)
        nn.init.zeros_(self.scale)

    def hidden(self, tokens: Tensor) -> Tensor:
        return self.decoder.hidden(tokens)

    def logits(self, hidden: Tensor, chances: Tensor, evidence: Tensor) -> Tensor:
        """[tokens, width], [tokens, vocabulary] and [tokens, order] to logits [tokens, vocabulary]."""
        weight = 1 + torch.cat((hidden.float(), evidence), dim=-1) @ self.scale
        return torch.addcmul(self.decoder.logits(hidden), weight[:, None], chances.log())

    def log_likelihood(self, hidden: Tensor, targets: Tensor, chances: Tensor, evidence: Tensor) -> Tensor:
        """As `Decoder.log_likelihood`, a block of rows at a time."""
        rows = max(LOGITS_AT_ONCE // self.ngram.vocabulary_size, 1)
        parts = zip(*(torch.split(whole, rows) for whole in (hidden, chances, evidence, targets)), strict=True)
        return -torch.cat([F.cross_entropy(self.logits(h, c, e), t, reduction="none") for h, c, e, t in parts])

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats a token; both [batch, length]."""
        chances, evidence = (
            torch.from_numpy(x).to(tokens.device) for x in self.ngram.distributions(tokens.cpu().numpy())
        )
        hidden = self.hidden(tokens).flatten(0, 1)
        return -self.log_likelihood(hidden, targets.flatten(), chances, evidence).mean()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        groups = self.decoder.parameter_groups()
        return groups | {"vectors": [*groups["vectors"], self.scale]}


class Residual(Transformer):
    """Settings: those of a transformer, the n-gram model's `order`, and `share`, the network's part of the text."""

    kind: ClassVar[str] = "residual"

    def __init__(self, shape: Shape, ngram: NGram, share: float = 0.125) -> None:
        if not 0 < share < 1:
            raise ModelError(f"share {share} of the residual model is not between 0 and 1")
        super().__init__(shape, ngram.vocabulary_size, ngram.end)
        self.ngram, self.share = ngram, share
        self.network = Corrected(self.network, ngram)

    @classmethod
    def build(cls, settings: dict[str, Any], vocabulary_size: int, end: int, seed: int = 0) -> Residual:
        """A new model from a `models` entry; it needs `prepare` before it can say anything."""
        shape = Shape(**{k: settings[k] for k in Transformer.setting_names() & set(settings)})
        model = cls(shape, NGram(settings.get("order", 4), vocabulary_size, end), settings.get("share", 0.125))
        model.network.initialize(seed)
        return model

    @classmethod
    def setting_names(cls) -> set[str]:
        return Transformer.setting_names() | {"order", "share"}

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
    def _likelihood(self, window: Window, inputs: Tokens, targets: Tokens, states: Tensor) -> Floats:
        """Log-likelihood of a window's scored tokens; the n-gram model sees the few tokens it needs before them."""
        first = max(window.scored - self.ngram.order, 0)
        chances, evidence = self.ngram.distributions(inputs[None, first : window.stop])
        skip = window.scored - first
        parts = (targets[window.scored : window.stop].astype(np.int64), chances[skip:], evidence[skip:])
        tensors = (torch.from_numpy(np.ascontiguousarray(part)).to(self.device) for part in parts)
        return np.asarray(self.network.log_likelihood(states, *tensors).double().cpu().numpy())

    @torch.inference_mode()
    def score(self, documents: list[Tokens]) -> list[Floats]:
        """See `LanguageModel.score`; by windows, as a transformer."""
        inputs = [np.append(self.end, document)[:-1] for document in documents]
        scores = [np.zeros(len(document)) for document in documents]
        for batch, states in self._run(inputs):
            for window, part in zip(batch, states, strict=True):
                number = window.document
                found = self._likelihood(window, inputs[number], documents[number], part)
                scores[number][window.scored : window.stop] = found
        return scores

    @torch.inference_mode()
    def next_probabilities(self, context: Tokens) -> Floats:
        """See `LanguageModel.next_probabilities`; sees the last `context` tokens, `end` included."""
        history = np.append(self.end, np.asarray(context, dtype=np.int64))[-self.context :]
        states = self.network.hidden(torch.from_numpy(history[None]).to(self.device))[0, -1:]
        chances, evidence = self.ngram.distributions(history[None, -self.ngram.order :])
        known = (torch.from_numpy(part[-1:]).to(self.device) for part in (chances, evidence))
        return np.asarray(torch.softmax(self.network.logits(states, *known).double(), dim=-1)[0].cpu().numpy())

    # ----------------------------------------------------------------------------------------------- files

    @property
    def parameters_count(self) -> int:
        return super().parameters_count + self.ngram.parameters_count

    def describe(self) -> list[tuple[str, tuple[int, ...], int]]:
        return super().describe() + self.ngram.describe()

    def configuration(self) -> dict[str, Any]:
        return super().configuration() | {"order": self.ngram.order, "share": self.share}

    def save(self, folder: str | Path) -> None:
        """Write the network as a transformer does, and the n-gram model to `ngram/`."""
        super().save(folder)
        (Path(folder) / "ngram").mkdir(exist_ok=True)
        self.ngram.save(Path(folder) / "ngram")

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Residual:
        """Read what `save` wrote, onto `device`; the n-gram model stays on the CPU."""
        saved = read_configuration(Path(folder))
        model = cls(Shape(**saved["shape"]), NGram.load(Path(folder) / "ngram"), saved["share"])
        model._load_network(Path(folder))
        return model.to(device)
