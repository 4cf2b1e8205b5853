"""Pileline's transformer with hashed bigrams, shifted keys and embeddings seen again, for `transformers`, in one file.

    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

It needs torch and transformers alone. The network is that of `pileline.models.transformer`, with the same names; what
differs is what the library asks for: a cache, padding on the left, and positions that come from the attention mask. A
sequence is one document and starts with the token `bos_token_id`.
"""

# The library's own classes are typed in part.
# mypy: disable-error-code="no-untyped-call, no-any-return, misc, arg-type, assignment"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast


class PilelineConfig(PreTrainedConfig):
    """The fields of Llama's configuration, and

    bigrams      buckets of the hashed bigram embedding; 0: none
    ngrams       tokens of the longest n-gram with such an embedding; of 4: bigrams, trigrams and 4-grams
    hashed       tokens that n-grams are hashed with: the vocabulary, before any were added to it
    key_shift    keys have a part of so many keys before; 0: none
    again        every layer sees the embeddings again
    square_head  the output matrix is the embeddings' times a square one
    """

    model_type = "pileline"

    def __init__(
        self,
        vocab_size: int = 2048,
        hidden_size: int = 128,
        intermediate_size: int = 512,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 4,
        num_key_value_heads: int = 4,
        max_position_embeddings: int = 256,
        hidden_act: str = "relu2",
        bigrams: int = 0,
        ngrams: int = 2,
        hashed: int | None = None,
        key_shift: int = 0,
        again: bool = True,
        square_head: bool = True,
        rms_norm_eps: float = 1.1920928955078125e-07,
        **others: Any,
    ) -> None:
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.num_key_value_heads, self.max_position_embeddings = num_key_value_heads, max_position_embeddings
        self.hidden_act, self.bigrams, self.ngrams, self.hashed = hidden_act, bigrams, ngrams, hashed or vocab_size
        self.key_shift, self.again, self.square_head, self.rms_norm_eps = key_shift, again, square_head, rms_norm_eps
        super().__init__(**others)


def norm(x: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last axis, without a gain."""
    return F.rms_norm(x, (x.size(-1),), eps=epsilon)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs (x_i, x_(i + size/2)) by their position's angles."""
    return torch.addcmul(x * cosine, x.roll(x.size(-1) // 2, dims=-1), sine)


class Attention(nn.Module):
    """Causal self-attention with rotary positions, normalized queries and keys, and grouped heads."""

    def __init__(self, config: PilelineConfig, number: int) -> None:
        super().__init__()
        self.number, self.epsilon = number, config.rms_norm_eps
        self.size = config.hidden_size // config.num_attention_heads
        self.grouped = config.num_key_value_heads < config.num_attention_heads
        inner = config.num_key_value_heads * self.size
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.key = nn.Linear(config.hidden_size, inner, bias=False)
        self.value = nn.Linear(config.hidden_size, inner, bias=False)
        self.project = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        shifts = config.key_shift + 1 if config.key_shift else 0
        self.shift = nn.ParameterList(nn.Parameter(torch.zeros(inner)) for _ in range(shifts))

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor, seen: Tensor, there: Tensor, cache: Any) -> Tensor:
        """Attend from x [batch, length, width] to the cache and to itself; the tables are of all these places.

        The cache holds keys as they are before shift and turn, which need the ones before them.
        """
        batch, length, width = x.shape
        query, key, value = (
            layer(x).view(batch, length, -1, self.size).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        if cache is not None:
            key, value = cache.update(key, value, self.number)
        if self.shift:
            whole = F.pad(key * there, (0, 0, len(self.shift), 0))
            key = sum(
                whole.narrow(2, len(self.shift) - back, key.size(2)) * weight.view(-1, 1, self.size)
                for back, weight in enumerate(self.shift)
            )
        query = rotate(norm(query, self.epsilon), cosine[:, :, -length:], sine[:, :, -length:]).to(value.dtype)
        key = rotate(norm(key, self.epsilon), cosine, sine).to(value.dtype)
        y = F.scaled_dot_product_attention(query, key, value, seen, enable_gqa=self.grouped)
        return self.project(y.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """ReLU squared, or SwiGLU."""

    def __init__(self, config: PilelineConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate = nn.Linear(width, inner, bias=False) if config.hidden_act == "silu" else None
        self.expand = nn.Linear(width, inner, bias=False)
        self.project = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        return self.project(F.relu(y).square() if self.gate is None else F.silu(self.gate(x)) * y)


class Block(nn.Module):
    """One layer: attention, then the MLP, each added to the residual stream."""

    def __init__(self, config: PilelineConfig, number: int) -> None:
        super().__init__()
        self.epsilon = config.rms_norm_eps
        self.attention = Attention(config, number)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, *places: Any) -> Tensor:
        x = x + self.attention(norm(x, self.epsilon), *places)
        return x + self.mlp(norm(x, self.epsilon))


class PilelineForCausalLM(PreTrainedModel, GenerationMixin):
    """The decoder with its output layer."""

    config_class = PilelineConfig
    _no_split_modules = ["Block"]  # noqa: RUF012  (the library's own form)
    _supports_sdpa = True

    def __init__(self, config: PilelineConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.bigram = nn.Embedding(config.bigrams, width) if config.bigrams else None
        longer = config.ngrams - 2 if config.bigrams else 0
        self.ngram = nn.ModuleList(nn.Embedding(config.bigrams, width) for _ in range(longer))
        self.blocks = nn.ModuleList(Block(config, number) for number in range(config.num_hidden_layers))
        self.again = nn.Parameter(torch.zeros(config.num_hidden_layers)) if config.again else None
        self.head = nn.Linear(width, width if config.square_head else config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module | None:
        return None if self.config.square_head else self.head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.head = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        before: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits [batch, length, vocabulary] of `input_ids` [batch, length], which follow those in `past_key_values`.

        `before` [batch, some] are the tokens right before these, which n-grams need where there is a past.
        `attention_mask` [batch, past and length] is 0 for padding. Hidden states, if asked for, are what goes into each
        layer and what goes into the output layer.
        """
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache(config=self.config)
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        batch, length = input_ids.shape
        if attention_mask is None:
            attention_mask = torch.ones(batch, past + length, dtype=torch.int64, device=input_ids.device)
        x = self.embedding(input_ids)
        if self.bigram is not None:
            found = self.buckets(input_ids, attention_mask, past, before)
            for table, buckets in zip((self.bigram, *self.ngram), found, strict=True):
                x = x + table(buckets)
        first = x = norm(x, self.config.rms_norm_eps)
        places = self.places(attention_mask, length, x.dtype)
        every = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        states = []
        for number, block in enumerate(self.blocks):
            states += [x] if every else []
            x = block(x if self.again is None else x + self.again[number] * first, *places, past_key_values)
        x = norm(x, self.config.rms_norm_eps)
        outputs = self.head(x[:, slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep])
        logits = F.linear(outputs, self.embedding.weight) if self.config.square_head else outputs
        loss = self.loss_function(logits, labels, self.config.vocab_size) if labels is not None else None
        hidden = (*states, x) if every else None
        output = CausalLMOutputWithPast(loss, logits, past_key_values, hidden)
        named = self.config.return_dict if return_dict is None else return_dict
        return output if named else output.to_tuple()

    def buckets(self, tokens: Tensor, mask: Tensor, past: int, before: Tensor | None) -> list[Tensor]:
        """The buckets of each token with the one before it, the two before it, ...; before a document is nothing."""
        length = tokens.size(1)
        if past and (before is None or before.size(1) < min(past, self.config.ngrams - 1)):
            raise ValueError(f"going on from a cache needs `before`, the last {self.config.ngrams - 1} tokens in it")
        tokens = tokens if before is None else torch.cat((before, tokens), dim=1)
        there = mask[:, -tokens.size(1) :] != 0
        code, found = tokens, []
        for _ in range(self.config.ngrams - 1):
            earlier = F.pad(torch.where(there, code, -1)[:, :-1] + 1, (1, 0))
            code = (earlier * self.config.hashed + tokens) % 2_147_483_647
            found.append((code * 48_271 % 2_147_483_647 % self.config.bigrams)[:, -length:])
        return found

    def places(self, mask: Tensor, new: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Rotary tables [batch, 1, all, size], what [batch, 1, new, all] the last may see, and which are no padding."""
        size = self.config.hidden_size // self.config.num_attention_heads
        base = self.config.rope_parameters["rope_theta"]
        powers = torch.arange(0, size, 2, dtype=torch.float32, device=mask.device) / size
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        angles = positions[:, None, :, None].float() * base ** (-powers)
        cosine, sine = angles.cos(), angles.sin()
        place = torch.arange(mask.size(1), device=mask.device)
        causal = place[-new:, None] >= place
        itself = place[-new:, None] == place  # padding sees itself, so that no row is without a place
        seen = (causal & mask.bool()[:, None, None, :]) | itself
        tables = torch.cat((cosine, cosine), dim=-1).to(dtype), torch.cat((-sine, sine), dim=-1).to(dtype)
        return *tables, seen, mask[:, None, :, None].to(dtype)

    def prepare_inputs_for_generation(self, input_ids: Tensor, *arguments: Any, **kwargs: Any) -> dict[str, Any]:
        # by the name `kwargs` the library knows that all arguments of `forward` may be given, a mask for one
        inputs = super().prepare_inputs_for_generation(input_ids, *arguments, **kwargs)
        left = input_ids.size(1) - inputs["input_ids"].size(1)
        return inputs | {"before": input_ids[:, max(left - self.config.ngrams + 1, 0) : left] if left else None}
