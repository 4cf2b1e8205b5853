"""Let a trained model write: a prompt goes in, and what the model says comes after it comes out, as it is drawn.

    python -m pileline.generate results/models/demo/bpe2k/transformer --prompt "The history of" --tokens 100
    python -m pileline.generate results/models/demo/bpe2k/ngram --temperature 0.7 --top-p 0.9 --samples 3 < prompt.txt

Any kind of model will do. The text goes to standard output, prompt included; how fast it came, to standard error. The
same model, prompt, settings and seed write the same text. A model that ends its document stops before `--tokens`. The
line break that ends a prompt from standard input, as `echo` and editors write it, is not part of the prompt.

Exit status: 0 if it wrote, 2 if the folder, the prompt or a setting does not do.
"""

from __future__ import annotations

import argparse
import codecs
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from pileline import models
from pileline.models.sampling import Sampling
from pileline.tokenizer import Tokenizer

HELP = {
    "temperature": "below 1 sharpens, above 1 flattens, 0 takes the likeliest token",
    "top_k": "keep the k likeliest tokens; 0 keeps all",
    "top_p": "keep the fewest likeliest tokens whose probabilities sum to this",
    "min_p": "keep tokens at least this many times as likely as the likeliest",
    "repetition_penalty": "above 1 makes tokens that stand in the text less likely",
}
LEAST = {"tokens": 0, "samples": 1, "seed": 0, "threads": 1}


def tokenizer_folder(model: str | Path) -> Path:
    """Where the tokenizer of the model in results/models/{corpus}/{tokenizer}/{model} is."""
    folder = Path(model).absolute()
    if len(folder.parts) < 5:
        raise models.ModelError(f"{model}: not below results/models/; name the model's tokenizer by --tokenizer")
    return folder.parents[3] / "tokenizers" / folder.parts[-3] / folder.parts[-2]


def load(
    model: str | Path, tokenizer: str | Path | None = None, device: str = "cpu", threads: int | None = None
) -> tuple[models.LanguageModel, Tokenizer]:
    """A trained model and its tokenizer, by default the one of its own path; `ModelError` if they do not fit."""
    found = models.load(model, device, threads)
    folder = Path(tokenizer) if tokenizer else tokenizer_folder(model)
    made = Tokenizer.load(folder)
    if (made.vocabulary_size, made.end) != (found.vocabulary_size, found.end):
        raise models.ModelError(
            f"{folder}: {made.vocabulary_size:,} tokens, end {made.end}; the model in {model} has "
            f"{found.vocabulary_size:,}, end {found.end}; name the tokenizer it was trained with by --tokenizer"
        )
    return found, made


def pieces(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of the tokens in parts, as soon as each is sure: a character may take several tokens, of a byte each.

    The parts joined are the tokens decoded together, with U+FFFD for bytes that are no UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        yield decoder.decode(tokenizer.decode_bytes([token]))
    yield decoder.decode(b"", final=True)


def parser() -> argparse.ArgumentParser:
    """The command's arguments; those of sampling are the fields of `Sampling`."""
    made = argparse.ArgumentParser(prog="python -m pileline.generate", description=(__doc__ or "").split("\n")[0])
    made.add_argument("model", help="folder of a trained model, as results/models/demo/bpe2k/transformer")
    made.add_argument("--prompt", help="what the model goes on from; standard input if not given, '' for nothing")
    made.add_argument("--tokens", type=int, default=100, help="write so many tokens at most (%(default)s)")
    for field in fields(Sampling):
        name = "--" + field.name.replace("_", "-")
        made.add_argument(
            name, type=type(field.default), default=field.default, help=HELP[field.name] + " (%(default)s)"
        )
    made.add_argument("--samples", type=int, default=1, help="so many texts, by seeds from --seed on (%(default)s)")
    made.add_argument("--seed", type=int, default=0, help="another seed, another text (%(default)s)")
    made.add_argument("--tokenizer", help="its tokenizer's folder; found from the model's if not given")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="(%(default)s)")
    made.add_argument("--threads", type=int, help="cores; as many as the process has if not given")
    return made


def asked_prompt(given: str | None) -> str:
    """The prompt as given, else from standard input, without the line break that ends its last line."""
    if given is not None:
        return given
    if sys.stdin.isatty():
        print("generate: type a prompt, and end it by Ctrl-D on a line of its own", file=sys.stderr)
    return sys.stdin.read().removesuffix("\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    asked = parser().parse_args(arguments)
    try:
        sampling = Sampling(**{field.name: getattr(asked, field.name) for field in fields(Sampling)})
        for name, least in LEAST.items():
            if (value := getattr(asked, name)) is not None and value < least:
                raise ValueError(f"{name} is {value}, must be at least {least}")
        model, tokenizer = load(asked.model, asked.tokenizer, asked.device, asked.threads)
        prompt = asked_prompt(asked.prompt)
        tokens = tokenizer.encode(prompt)
    except ValueError as error:  # as all errors of models, sampling, tokenizers and manifests are
        print(f"generate: {error}", file=sys.stderr)
        return 2
    began, count = time.perf_counter(), 0

    def counted(seed: int) -> Iterator[int]:
        nonlocal count
        for token in model.write(tokens, asked.tokens, sampling, seed):
            count += 1
            yield token

    try:
        for seed in range(asked.seed, asked.seed + asked.samples):
            print((f"── seed {seed}\n" if asked.samples > 1 else "") + prompt, end="", flush=True)
            for piece in pieces(tokenizer, counted(seed)):
                print(piece, end="", flush=True)
            print(flush=True)
    except BrokenPipeError:  # the reader has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's end would complain
    seconds = time.perf_counter() - began
    print(f"{count} tokens in {seconds:.2f} s, {count / max(seconds, 1e-9):.0f} tokens/s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
