"""Neural language models: everything that they have in common, so that a new one is a network and its settings.

    class Network(torch.nn.Module)   token ids to hidden states, hidden states to logits; subclass it
    class Neural(LanguageModel)      names the settings (a dataclass) and makes the network; the rest is here

A network is trained on blocks of `context` tokens, and scores longer documents by windows of that length which
overlap by half. One that carries a state from block to block overrides `score`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .device import choose_device
from .interface import Floats, LanguageModel, ModelError, Tokens, read_configuration, write_configuration

LOGITS_AT_ONCE = 1 << 21  # numbers; a larger block of logits would leave the CPU's cache and malloc's heap
LOGITS_AT_ONCE_CUDA = 1 << 30  # a GPU has memory for more, and takes few large products faster than many small ones
SCORED_AT_ONCE = 1 << 13  # tokens a forward pass when scoring

State = dict[str, Tensor]  # what a network keeps of the tokens before, by name


def check_shape(kind: str, shape: Any, sizes: Iterable[str], **choices: Iterable[str]) -> None:
    """Raise `ModelError` for what no shape may have: a size below 1, a dropout that leaves nothing, an unknown choice.

    `sizes` are names of fields; `choices` are too, each with what is known.
    """
    for name in sizes:
        if getattr(shape, name) < 1:
            raise ModelError(f"{kind}: {name} is {getattr(shape, name)}, must be at least 1")
    for name, known in choices.items():
        if getattr(shape, name) not in known:
            raise ModelError(f"{kind}: {name} is '{getattr(shape, name)}', must be one of {', '.join(known)}")
    dropout = getattr(shape, "dropout", 0.0)
    if not 0 <= dropout < 1:
        raise ModelError(f"{kind}: dropout is {dropout}, must be at least 0 and below 1")


def predicted(targets: Tensor) -> Tensor:
    """How many targets are tokens and not padding; 1 if none is, so that a loss of nothing is 0."""
    return (targets >= 0).sum().clamp(min=1)


class Table(nn.Embedding):
    """An embedding of so many rows that a step of training sees few of them, as a hashed one.

    It has a group of its own among the parameters, so that training need not pass over rows that nothing was said of.
    """


class Network(nn.Module):
    """Token ids [batch, length] to the distribution of each next token.

    Buffers that training changes, as running means, should be persistent: they are saved with the weights, and several
    processes have the mean of theirs after each step.
    """

    vocabulary_size: int

    @abstractmethod
    def hidden(self, tokens: Tensor) -> Tensor:
        """Final hidden states, [batch, length] to [batch, length, width]; a place sees itself and those before."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] in float32 from hidden states [..., width]."""

    def extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Hidden states of the `tokens` [batch, length] that follow those in `state`, and the state after them.

        `hidden` in parts, for generation: the state holds what earlier tokens leave behind; {} is that of none.
        The given state is used up, since networks may write in place. This one holds the tokens and computes
        them again; a network that can keep more, as keys and values, or an LSTM's cells, overrides it.
        """
        length = tokens.size(1)
        if state:
            tokens = torch.cat((state["tokens"], tokens), dim=1)
        return self.hidden(tokens)[:, -length:], {"tokens": tokens}

    def initialize(self, generator: torch.Generator) -> None:
        """Draw the initial weights from `generator` alone; by default they stay as torch's layers drew them.

        The global generator is seeded from the model's seed while a network is made.
        """
        return

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens))

    def log_likelihood(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Natural-log probability of each target, [tokens, width] and [tokens] to [tokens]; 0 for padding (-100).

        Logits are made a block of rows at a time: they are by far the largest array of a small model.
        """
        rows = max((LOGITS_AT_ONCE_CUDA if hidden.is_cuda else LOGITS_AT_ONCE) // self.vocabulary_size, 1)
        parts = zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
        return -torch.cat([F.cross_entropy(self.logits(h), t, reduction="none") for h, t in parts])

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats a token; both [batch, length]. Targets of -100 are padding and do not count."""
        return -self.log_likelihood(self.hidden(tokens).flatten(0, 1), targets.flatten()).sum() / predicted(targets)

    @property
    def in_nats(self) -> bool:
        """Whether `loss` is in nats a token in training, too; of a network with a `loss` of its own none can know."""
        return type(self).loss is Network.loss

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimizer treats alike.

        Hidden `matrices`; `embeddings`, and an output layer `head`; `tables`, which are a `Table`'s; `vectors`.
        """
        looked_up = {
            id(layer.weight): "tables" if isinstance(layer, Table) else "embeddings"
            for layer in self.modules()
            if isinstance(layer, nn.Embedding)
        }
        groups: dict[str, list[nn.Parameter]] = {"matrices": [], "embeddings": [], "tables": [], "vectors": []}
        for name, parameter in self.named_parameters():
            inner = "vectors" if parameter.ndim < 2 else "embeddings" if name.startswith("head.") else "matrices"
            groups[looked_up.get(id(parameter), inner)].append(parameter)
        return groups


@contextmanager
def found_at_once(network: nn.Module) -> Iterator[None]:
    """Meanwhile, what the network's modules hold stands where Python looks for attributes first.

    A module looks into its own tables only after that has failed, which takes as long as a small product does: a
    tenth of the time of a token that is written. Weights may change meanwhile, but not be replaced by others.
    """
    added = []
    for module in network.modules():
        for held in (module._parameters, module._buffers, module._modules):
            new = {name: value for name, value in held.items() if name not in module.__dict__}
            module.__dict__.update(new)
            added.append((module.__dict__, new))
    try:
        yield
    finally:
        for attributes, new in added:
            for name in new:
                attributes.pop(name, None)


class Window(NamedTuple):
    """A stretch of one document's inputs; predictions from `scored` on count, those before are context."""

    document: int
    start: int
    scored: int
    stop: int


def windows(lengths: list[int], context: int) -> Iterator[Window]:
    """Cut inputs into windows of at most `context`, overlapping by half, so that each is scored once.

    Every prediction but those near a document's start sees at least context / 2 tokens.
    """
    for document, length in enumerate(lengths):
        scored = 0
        while scored < length:
            start = 0 if scored == 0 else scored - context // 2
            stop = min(start + context, length)
            yield Window(document, start, scored, stop)
            scored = stop


def window_start(length: int, context: int) -> int:
    """Where the window starts in which `windows` scores the prediction after the last of `length` inputs."""
    beyond = length - 1 - context
    if beyond < 0:
        return 0
    overlap = context // 2
    return context - overlap + beyond // (context - overlap) * (context - overlap)


class Neural(LanguageModel):
    """A model around a network. A subclass names `kind` and `shape_class`, and makes the network.

    The shape, a frozen dataclass, is the model's settings: its fields are the keys of a `models` entry that are not
    training's, and one of them is `context`, the tokens of a block.
    """

    learns_by: ClassVar[str] = "gradient"
    has_features: ClassVar[bool] = True
    shape_class: ClassVar[type]

    def __init__(self, shape: Any, vocabulary_size: int, end: int, seed: int = 0) -> None:
        self.shape, self.vocabulary_size, self.end = shape, vocabulary_size, end
        self.context = shape.context
        with torch.random.fork_rng(devices=[]):  # the global generator is left as it was
            torch.manual_seed(seed)
            self.network: Any = self.make()
        with torch.no_grad():
            self.network.initialize(torch.Generator().manual_seed(seed))

    @abstractmethod
    def make(self) -> Network:
        """The network for `self.shape`, `self.vocabulary_size` and `self.end`."""

    @classmethod
    def build(cls, settings: dict[str, Any], vocabulary_size: int, end: int, seed: int = 0) -> Self:
        """A new model from a `models` entry; keys that are not in the shape are training's."""
        own = {key: settings[key] for key in cls.setting_names() & set(settings)}
        return cls(cls.shape_class(**own), vocabulary_size, end, seed)

    @classmethod
    def setting_names(cls) -> set[str]:
        """The keys of a `models` entry that describe the network."""
        return {field.name for field in fields(cls.shape_class)}

    def to(self, device: str) -> Self:
        """Move to a device ("auto", "cpu", "cuda"); returns itself."""
        self.device = choose_device(device)
        self.network.to(self.device)
        return self

    def use_threads(self, threads: int) -> None:
        super().use_threads(threads)
        torch.set_num_threads(threads)

    @property
    def parameters_count(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def describe(self) -> list[tuple[str, tuple[int, ...], int]]:
        return [(name, tuple(p.shape), p.numel()) for name, p in self.network.named_parameters()]

    # ------------------------------------------------------------------------------------------ scoring

    @torch.inference_mode()
    def _run(self, sequences: list[Tokens]) -> Iterator[tuple[list[Window], list[Tensor]]]:
        """Hidden states [stop - scored, width] of every window of every sequence, in batches of like length."""
        self.network.eval()
        found = sorted(windows([len(s) for s in sequences], self.context), key=lambda w: w.stop - w.start)
        while found:
            longest = found[-1].stop - found[-1].start
            count = max(SCORED_AT_ONCE // longest, 1)
            batch, found = found[-count:], found[:-count]
            rows = np.full((len(batch), longest), self.end, dtype=np.int64)
            for row, window in zip(rows, batch, strict=True):
                row[: window.stop - window.start] = sequences[window.document][window.start : window.stop]
            hidden = self.network.hidden(torch.from_numpy(rows).to(self.device))
            yield batch, [h[w.scored - w.start : w.stop - w.start] for h, w in zip(hidden, batch, strict=True)]

    @torch.inference_mode()
    def score(self, documents: list[Tokens]) -> list[Floats]:
        """See `LanguageModel.score`; documents longer than the context by windows that overlap by half."""
        inputs = [np.append(self.end, document)[:-1] for document in documents]
        scores = [np.zeros(len(document)) for document in documents]
        for batch, states in self._run(inputs):
            wanted = np.concatenate([documents[w.document][w.scored : w.stop] for w in batch]).astype(np.int64)
            found = self.network.log_likelihood(torch.cat(states), torch.from_numpy(wanted).to(self.device))
            parts = np.split(found.double().cpu().numpy(), np.cumsum([len(h) for h in states])[:-1])
            for window, part in zip(batch, parts, strict=True):
                scores[window.document][window.scored : window.stop] = part
        return scores

    def window_start(self, length: int) -> int:
        """The first of `length` tokens (`end` included) that the prediction after them sees, when scored and written.

        A model whose state reaches back to the document's start overrides this: 0.
        """
        return window_start(length, self.context)

    @torch.inference_mode()
    def next_probabilities(self, context: Tokens) -> Floats:
        """See `LanguageModel.next_probabilities`; sees what `score` sees, half a context of tokens at least."""
        self.network.eval()
        history = np.append(self.end, np.asarray(context, dtype=np.int64))
        start = self.window_start(len(history))
        return self._chances(self.network.hidden(self._row(history[start:])), history, start)

    @torch.inference_mode()
    def predictions(self, prompt: Tokens) -> Generator[Floats, int, None]:
        """See `LanguageModel.predictions`; goes on from the network's state, and anew where a window starts."""
        self.network.eval()
        tokens = [self.end, *(int(token) for token in prompt)]
        start, new, state = -1, tokens, State()
        with found_at_once(self.network):
            while True:
                if self.window_start(len(tokens)) != start:
                    start = self.window_start(len(tokens))
                    state, new = {}, tokens[start:]
                hidden, state = self.network.extend(self._row(new), state)
                new = [(yield self._chances(hidden, tokens, start))]
                tokens += new

    def _row(self, tokens: Any) -> Tensor:
        return torch.from_numpy(np.array([tokens], dtype=np.int64)).to(self.device)

    def _chances(self, hidden: Tensor, tokens: Any, start: int) -> Floats:
        """Distribution, float64 [V], of the token after the last of the hidden states [1, length, width].

        They were computed from `tokens` from `start` on, for a model that looks at these, too.
        """
        logits = self.network.logits(hidden[0, -1])
        return np.asarray(torch.softmax(logits, dim=-1, dtype=torch.float64).cpu().numpy())

    @torch.inference_mode()
    def features(self, documents: list[Tokens]) -> Floats:
        """Mean over each document's tokens (and its `end`) of the final hidden states, float32 [n, width]."""
        sums: list[Any] = [0.0] * len(documents)
        for batch, states in self._run([np.append(self.end, document) for document in documents]):
            for window, part in zip(batch, states, strict=True):
                sums[window.document] = sums[window.document] + part.double().sum(dim=0).cpu().numpy()
        counts = np.array([[len(document) + 1] for document in documents])
        return np.asarray(np.stack(sums) / counts, dtype=np.float32)

    # ------------------------------------------------------------------------------------------- files

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` (float32) and `config.json`."""
        from safetensors.torch import save

        state = {name: value.detach().cpu() for name, value in self.network.state_dict().items()}
        apart = {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}  # if tied
        (Path(folder) / "model.safetensors").write_bytes(save(apart))  # save_file makes it private to the user
        write_configuration(Path(folder), self)

    def configuration(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "shape": asdict(self.shape),
            "vocabulary_size": self.vocabulary_size,
            "end": self.end,
        }

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Self:
        """Read what `save` wrote, onto `device`."""
        saved = read_configuration(Path(folder))
        model = cls(cls.shape_class(**saved["shape"]), saved["vocabulary_size"], saved["end"])
        model._load_network(Path(folder))
        return model.to(device)

    def _load_network(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self.network.load_state_dict(load_file(folder / "model.safetensors"))
