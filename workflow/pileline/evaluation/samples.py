"""Samples: what a model writes after a prompt."""

from __future__ import annotations

from typing import Any, Protocol

from pileline.models import LanguageModel


class Codec(Protocol):
    """What sampling needs of a tokenizer."""

    def encode(self, text: str) -> Any: ...
    def decode(self, tokens: Any) -> str: ...


def samples(
    model: LanguageModel,
    tokenizer: Codec,
    prompts: list[str],
    seed: int,
    tokens: int = 80,
    temperature: float = 0.8,
    top_k: int = 50,
) -> list[dict[str, str]]:
    """`{"prompt", "text"}` for each prompt: at most `tokens` new tokens, drawn with a generator of their own.

    A text may hold U+FFFD where a model wrote bytes that are no UTF-8.
    """
    found = []
    for number, prompt in enumerate(prompts):
        new = model.generate(tokenizer.encode(prompt), tokens, temperature, top_k, seed + number)
        found.append({"prompt": prompt, "text": tokenizer.decode(new.tolist())})
    return found
