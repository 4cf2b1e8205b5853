"""The words of messages about a configuration: where a mistake stands, what was found there, what should be."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from typing import Any

# What JSON's types are called in messages.
WORDS = {
    "object": "settings by name",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
ELSEWHERE = {  # what settings of models are called in other libraries
    "batch_size": "batch_tokens",
    "betas": "beta1",
    "block_size": "context",
    "d_ff": "mlp",
    "d_model": "width",
    "dtype": "precision",
    "early_stopping": "patience",
    "eval_interval": "validations",
    "grad_clip": "clip",
    "gradient_accumulation_steps": "accumulate",
    "hidden_size": "width",
    "learning_rate": "rate",
    "lr": "rate",
    "lr_scheduler": "schedule",
    "max_epochs": "epochs",
    "max_iters": "steps",
    "max_seq_len": "context",
    "max_steps": "steps",
    "max_tokens": "tokens",
    "n_embd": "width",
    "n_head": "heads",
    "n_kv_head": "key_value_heads",
    "n_layer": "layers",
    "num_epochs": "epochs",
    "num_heads": "heads",
    "num_layers": "layers",
    "seq_len": "context",
    "vocab_size": "vocabulary",
    "warmup_iters": "warmup",
    "warmup_steps": "warmup",
}


def schema_message(error: Any, place: str) -> Iterator[str]:
    """One schema error in words that say how to mend it."""
    match error.validator:
        case "additionalProperties":
            known = sorted(error.schema.get("properties", {}))
            for name in sorted(set(error.instance) - set(known)):
                yield f"{place}: unknown setting '{name}'{suggestion(name, known)}"
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            for name in missing:
                if f"'{name}' is a required" in error.message:
                    about = error.schema.get("properties", {}).get(name, {}).get("description", "")
                    yield f"{place}: needs '{name}'" + (f", {about}" if about else "")
        case "type":
            types = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
            wanted = " or ".join(WORDS.get(name, name) for name in types)
            about = error.schema.get("description", "") or _number_as_text(error.instance, wanted)
            yield f"{place}: should be {wanted}, found {shown(error.instance)}" + (f" ({about})" if about else "")
        case "enum":
            yield f"{place}: should be one of {error.validator_value}, found {shown(error.instance)}"
        case "exclusiveMinimum":
            yield f"{place}: should be above {error.validator_value}, found {shown(error.instance)}"
        case "exclusiveMaximum":
            yield f"{place}: should be below {error.validator_value}, found {shown(error.instance)}"
        case "minProperties" | "minItems":
            about = error.schema.get("description", "")
            yield f"{place}: needs at least one entry, found none" + (f" ({about})" if about else "")
        case "pattern":
            about = error.schema.get("description", f"of the form {error.validator_value}")
            yield f"{place}: should be {about}, found {shown(error.instance)}"
        case _:
            about = error.schema.get("description", "")
            yield f"{place}: {error.message}" + (f" ({about})" if about else "")


def own_name_problems(name: str, where: str, written: str) -> Iterator[str]:
    """What is wrong with the name of something of the user's own: not `module:name`, or the library's."""
    module, _, attribute = name.partition(":")
    if not (all(map(str.isidentifier, module.split("."))) and attribute.isidentifier()):
        yield f"{where}: {written}, found '{name}'"
    elif module.split(".")[0] == "pileline":
        yield f"{where}: '{name}' is of the library; name it as it stands in the reference of config.yaml"


def _number_as_text(value: Any, wanted: str) -> str:
    """A hint for 1e-4, which YAML takes for text since it has no point."""
    if "a number" in wanted and isinstance(value, str):
        with contextlib.suppress(ValueError):
            written = repr(float(value))
            return f"YAML takes 1e-4 for text: write {written if '.' in written else written.replace('e', '.0e')}"
    return ""


def shown(value: Any) -> str:
    """A value as a message quotes it: in one short line."""
    if value is None:
        return "nothing"
    written = repr(value)
    return written if len(written) <= 80 else written[:77] + "..."


def suggestion(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: the known name that was perhaps meant, else all of them."""
    if ELSEWHERE.get(name) in known:
        return f"; here it is called '{ELSEWHERE[name]}'"
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are: {', '.join(known)}"
