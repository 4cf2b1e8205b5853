"""Which architecture of `transformers` computes what a model computes, and its weights in that one's shape.

| model                                       | architecture | what is folded into the weights                        |
|---------------------------------------------|--------------|--------------------------------------------------------|
| transformer, `mlp_kind: gated`              | Qwen3        | norm of the embeddings; the head, if tied              |
| transformer, `mlp_kind: relu2`              | NanoChat     | halves of a head swapped: it turns backwards; the head |
| either with `bigrams`, `key_shift`, `again` | Pileline     | nothing: the modelling file does as we do              |
| transformer-2017                            | OPT          | scale of the embeddings; positions as a table          |

A tied head says E P norm(x). One matrix E P [vocabulary, width] gives the same logits, as an untied head.
RMSNorm without a gain is one with a gain of ones. Rotations commute with RMSNorm, and turning backwards (NanoChat) is
turning forwards with both halves of a vector swapped, in queries as in keys.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pileline.models import LanguageModel
from pileline.models.transformer import ROPE_BASE

KINDS = ("transformer", "transformer-2017")  # of models that can be exported
EPSILON = torch.finfo(torch.float32).eps  # RMSNorm's, as torch's own default


class ExportError(ValueError):
    """A model that no architecture here computes."""


class Exported(NamedTuple):
    """A model for `transformers`: `config.json`, the weights, and whether it needs our modelling file."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    own_code: bool = False


@torch.no_grad()
def translate(model: LanguageModel) -> Exported:
    """The architecture for a model, and its weights in float32; `ExportError` if there is none."""
    if model.kind == "transformer":
        found = _modern(model)
    elif model.kind == "transformer-2017":
        found = _original(model)
    else:
        raise ExportError(f"a model of kind '{model.kind}' has no architecture in transformers; exported: {KINDS}")
    shared = {
        "vocab_size": model.vocabulary_size,
        "bos_token_id": model.end,
        "eos_token_id": model.end,
        "pad_token_id": None,
        "tie_word_embeddings": False,
        "dtype": "float32",
    }
    weights = {name: value.detach().float().cpu().contiguous() for name, value in found.weights.items()}
    return Exported(shared | found.config, weights, found.own_code)


def _modern(model: Any) -> Exported:
    """A `transformer`: Qwen3, NanoChat or our own."""
    shape = model.shape
    config = {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.groups,
        "head_dim": shape.width // shape.heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "attention_bias": False,
        "attention_dropout": 0.0,
    }
    if shape.bigrams or shape.key_shift or shape.again:
        return _own(model, config)
    return _qwen3(model, config) if shape.mlp_kind == "gated" else _nanochat(model, config)


def _head(network: Any) -> Tensor:
    """The output matrix [vocabulary, width], also of a tied head."""
    head: Tensor = network.head.weight
    if network.tied:
        embedding: Tensor = network.embedding.weight
        head = (embedding.double() @ head.double()).float()
    return head


def _qwen3(model: Any, config: dict[str, Any]) -> Exported:
    """SwiGLU; Qwen3 does not normalize embeddings, so they are stored normalized."""
    network, shape = model.network, model.shape
    one = torch.ones(shape.width)
    weights = {
        "model.embed_tokens.weight": F.rms_norm(network.embedding.weight, (shape.width,), eps=EPSILON),
        "model.norm.weight": one,
        "lm_head.weight": _head(network),
    }
    for number, block in enumerate(network.blocks):
        layer, size = f"model.layers.{number}.", shape.width // shape.heads
        weights |= {f"{layer}{name}.weight": one.clone() for name in ("input_layernorm", "post_attention_layernorm")}
        weights |= {f"{layer}self_attn.{name}.weight": torch.ones(size) for name in ("q_norm", "k_norm")}
        weights |= _attention(layer, block.attention, lambda weight: weight)
        parts = {"gate_proj": block.mlp.gate, "up_proj": block.mlp.expand, "down_proj": block.mlp.project}
        weights |= {f"{layer}mlp.{name}.weight": part.weight for name, part in parts.items()}
    known = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu"}
    return Exported(config | known, weights)


def _nanochat(model: Any, config: dict[str, Any]) -> Exported:
    """ReLU squared; NanoChat turns queries and keys the other way round."""
    network, size = model.network, model.shape.width // model.shape.heads

    def swapped(weight: Tensor) -> Tensor:
        return weight.view(-1, 2, size // 2, weight.size(1)).flip(1).view_as(weight)

    weights = {"model.embed_tokens.weight": network.embedding.weight, "lm_head.weight": _head(network)}
    for number, block in enumerate(network.blocks):
        layer = f"model.layers.{number}."
        weights |= _attention(layer, block.attention, swapped)
        weights |= {
            f"{layer}mlp.fc1.weight": block.mlp.expand.weight,
            f"{layer}mlp.fc2.weight": block.mlp.project.weight,
        }
    known = {"architectures": ["NanoChatForCausalLM"], "model_type": "nanochat", "hidden_act": "relu2"}
    return Exported(config | known | {"final_logit_softcapping": None}, weights)


def _attention(layer: str, attention: Any, turned: Any) -> dict[str, Tensor]:
    """The four matrices under the names that most architectures have; `turned` is applied to queries and keys."""
    return {
        f"{layer}self_attn.q_proj.weight": turned(attention.query.weight),
        f"{layer}self_attn.k_proj.weight": turned(attention.key.weight),
        f"{layer}self_attn.v_proj.weight": attention.value.weight,
        f"{layer}self_attn.o_proj.weight": attention.project.weight,
    }


def _own(model: Any, config: dict[str, Any]) -> Exported:
    """Bigrams, shifted keys, or embeddings seen again: the weights as they are, for the modelling file."""
    known = {
        "architectures": ["PilelineForCausalLM"],
        "model_type": "pileline",
        "auto_map": {
            "AutoConfig": "modeling_pileline.PilelineConfig",
            "AutoModelForCausalLM": "modeling_pileline.PilelineForCausalLM",
        },
        "hidden_act": "silu" if model.shape.mlp_kind == "gated" else "relu2",
        "bigrams": model.shape.bigrams,
        "ngrams": model.shape.ngrams,
        "key_shift": model.shape.key_shift,
        "again": model.shape.again,
        "square_head": model.network.tied,
    }
    return Exported(config | known, dict(model.network.state_dict()), own_code=True)


def _original(model: Any) -> Exported:
    """A `transformer-2017`: OPT, whose norms may stand after the sums too; biases that we lack are zero.

    Embeddings are scaled where they come in and not where they go out; what the last norm gives is scaled instead.
    """
    network, shape = model.network, model.shape
    scale = math.sqrt(shape.width)
    weights = {
        "model.decoder.embed_tokens.weight": scale * network.embedding.weight,
        "model.decoder.embed_positions.weight": F.pad(network.positions, (0, 0, 2, 0)),  # it counts from 2
    }
    for number, block in enumerate(network.blocks):
        layer, attention = f"model.decoder.layers.{number}.", block.attention
        parts = {"q_proj": attention.query, "k_proj": attention.key, "v_proj": attention.value}
        for name, part in (parts | {"out_proj": attention.project}).items():
            weights |= {f"{layer}self_attn.{name}.weight": part.weight}
            weights |= {f"{layer}self_attn.{name}.bias": torch.zeros(shape.width)}
        last = scale if number + 1 == shape.layers else 1.0
        for name, part, divisor in (
            ("self_attn_layer_norm", block.attention_norm, 1.0),
            ("fc1", block.expand, 1.0),
            ("fc2", block.project, 1.0),
            ("final_layer_norm", block.mlp_norm, last),
        ):
            weights |= {f"{layer}{name}.weight": part.weight / divisor, f"{layer}{name}.bias": part.bias / divisor}
    config = {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "hidden_size": shape.width,
        "word_embed_proj_dim": shape.width,
        "ffn_dim": shape.mlp * shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.context,
        "do_layer_norm_before": False,
        "activation_function": "relu",
        "dropout": shape.dropout,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
    }
    return Exported(config, weights)
