"""Tiny models of Hugging Face transformers from random configurations, and batches for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ROWS, TOKENS, WORDS = 4, 12, 60
Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`model(transformers)` builds it; `batch(generator)` is one batch of its keyword arguments."""

    model: Callable[[Any], nn.Module]
    batch: Callable[[torch.Generator], Batch]


def _tokens(generator: torch.Generator, length: int = TOKENS) -> Tensor:
    return torch.randint(3, WORDS, (ROWS, length), generator=generator)


def _padding() -> Tensor:
    """Some rows are shorter than others."""
    lengths = torch.tensor([TOKENS, TOKENS - 3, TOKENS - 1, 4])
    return (torch.arange(TOKENS) < lengths[:, None]).long()


def _masked(generator: torch.Generator) -> Batch:
    """Some positions are padding, and only some of the others count."""
    tokens, mask = _tokens(generator), _padding()
    chosen = torch.rand(tokens.shape, generator=generator) < 0.4
    return {
        "input_ids": tokens,
        "attention_mask": mask,
        "labels": torch.where(chosen & mask.bool(), tokens, -100),
    }


def _causal(generator: torch.Generator) -> Batch:
    tokens = _tokens(generator)
    return {"input_ids": tokens, "labels": tokens.clone()}


def _sequences(generator: torch.Generator) -> Batch:
    """With padding: transformers leaves out a mask of ones, but not while it is being traced, and
    under autocast a mask rounds the gradient of T5's position bias elsewhere."""
    return {
        "input_ids": _tokens(generator),
        "attention_mask": _padding(),
        "decoder_attention_mask": _padding()[:, : TOKENS - 4],
        "labels": _tokens(generator, TOKENS - 4),
    }


def _images(generator: torch.Generator) -> Batch:
    pixels = torch.randn(ROWS, 3, 16, 16, generator=generator)
    return {"pixel_values": pixels, "labels": torch.randint(0, 5, (ROWS,), generator=generator)}


def _bert(library: Any) -> nn.Module:
    config = library.BertConfig(
        vocab_size=WORDS, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=16,
    )  # fmt: skip
    model: nn.Module = library.BertForMaskedLM(config)
    return model


def _distilbert(library: Any) -> nn.Module:
    config = library.DistilBertConfig(
        vocab_size=WORDS, dim=24, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=16
    )
    model: nn.Module = library.DistilBertForMaskedLM(config)
    return model


def _vit(library: Any) -> nn.Module:
    config = library.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        image_size=16, patch_size=8, num_labels=5, hidden_dropout_prob=0.1,
    )  # fmt: skip
    model: nn.Module = library.ViTForImageClassification(config)
    return model


def _gpt2(library: Any) -> nn.Module:
    config = library.GPT2Config(
        vocab_size=WORDS, n_embd=24, n_layer=2, n_head=2, n_positions=16,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model: nn.Module = library.GPT2LMHeadModel(config)
    return model


def _t5(library: Any) -> nn.Module:
    config = library.T5Config(
        vocab_size=WORDS, d_model=24, d_kv=12, d_ff=48, num_layers=2, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model: nn.Module = library.T5ForConditionalGeneration(config)
    return model


KINDS = {
    "bert": Kind(model=_bert, batch=_masked),
    "distilbert": Kind(model=_distilbert, batch=_masked),
    "vit": Kind(model=_vit, batch=_images),
    "gpt2": Kind(model=_gpt2, batch=_causal),
    "t5": Kind(model=_t5, batch=_sequences),
}
