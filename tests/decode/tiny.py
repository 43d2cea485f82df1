"""Small randomly initialised language models, three architectures: every run makes the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

VOCABULARY = 101
END = 7
WINDOW = 8


def tiny_llama(seed: int = 0, scale: float = 0.3) -> Any:
    """Two layers, hidden 32, grouped queries. A larger `scale` of the weights makes the laws less flat."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return _seeded(LlamaForCausalLM(config), seed, scale)


def tiny_gemma(seed: int = 0, scale: float = 0.3) -> Any:
    """Three layers, two of them with a sliding window of 8 tokens; embeddings are scaled by sqrt(hidden)."""
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        sliding_window=WINDOW,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return _seeded(Gemma3ForCausalLM(config), seed, scale)


def tiny_gpt2(seed: int = 0, scale: float = 0.3) -> Any:
    """Two layers with learned absolute positions: a token at another place has other logits."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=128,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=0,
    )
    return _seeded(GPT2LMHeadModel(config), seed, scale)


def _seeded(model: Any, seed: int, scale: float) -> Any:
    """Weights from NumPy's generator, so that torch's global generator plays no part."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                weight.copy_(torch.from_numpy(rng.normal(0, scale, tuple(weight.shape)).astype(np.float32)))
            else:
                scales = (
                    name.endswith("weight") and "Gemma" not in type(model).__name__
                )  # Gemma's norms scale by 1 + weight
                weight.fill_(float(scales))
    return model.float().eval()
