"""The target's own first layers as its drafter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from kofn.core.block import Floats
from kofn.core.numbers import is_whole
from kofn.decode.model import Tokens
from kofn.decode.speculation.drafter import ModelDrafter
from kofn.decode.transformers_model import TransformersModel
from kofn.errors import ParameterError, UsageError


class EarlyExit(ModelDrafter):
    """The first layers of a transformers model, then its own last norm and output layer, with a cache of their own.

    Nothing is trained and no weight is copied. Whether the first layers alone predict anything depends on the model: one
    that was not trained to exit early usually needs most of its layers.

    Parameters
    ----------
    model : TransformersModel
        The target. It is not changed.
    layers : int
        How many, from 1 to all.
    rule : callable, optional
        As in `ModelDrafter`.

    Notes
    -----
    Zhang et al., "Draft & Verify: Lossless Large Language Model Acceleration via Self-Speculative Decoding", 2024;
    Elhoushi et al., "LayerSkip: Enabling Early Exit Inference and Self-Speculative Decoding", 2024. Cost a drafted token:
    `layers` of the layers and the whole output layer, which is the larger part of a small model with a large vocabulary
    (`FrequencyRanked` cuts it).
    """

    def __init__(
        self, model: TransformersModel, layers: int, *, rule: Callable[[Floats], Floats] | None = None
    ) -> None:
        if not isinstance(model, TransformersModel):
            raise UsageError(
                f"{type(model).__name__} shows no layers to leave early; give a TransformersModel, "
                "or draft with ModelDrafter(model)"
            )
        super().__init__(TransformersModel(first_layers(model.model, layers), end=model.end), rule=rule)
        self.layers = layers


def first_layers(model: Any, layers: int) -> Any:
    """A causal language model of these layers that shares all weights with the given one, which stays as it is."""
    name = model.base_model_prefix
    trunk = getattr(model, name, None)
    stacks = [key for key, part in getattr(trunk, "_modules", {}).items() if type(part).__name__ == "ModuleList"]
    if len(stacks) != 1:
        raise UsageError(
            f"{type(model).__name__} has no single stack of layers in its .{name}; give a decoder-only model"
        )
    stack = getattr(trunk, stacks[0])
    if not is_whole(layers, 1, len(stack)):
        raise ParameterError(f"layers={layers!r} is not a number of the model's layers; give 1 to {len(stack)}")
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    shallow = _twin(trunk, {stacks[0]: type(stack)(list(stack)[:layers])}, config)
    return _twin(model, {name: shallow}, config)


def with_head(model: Any, tokens: Tokens) -> Any:
    """The model with an output layer of these tokens only, in their order: a copy of their rows, the rest is shared."""
    import torch

    head = model.get_output_embeddings()
    names = [key for key, part in model._modules.items() if part is head]
    if not names or type(head) is not torch.nn.Linear:
        raise UsageError(f"the output layer of {type(model).__name__} is no linear layer of its own; it cannot be cut")
    rows = torch.from_numpy(tokens).to(head.weight.device)
    with torch.no_grad():
        cut = torch.nn.Linear(head.in_features, len(tokens), bias=head.bias is not None, device="meta")
        cut.weight = torch.nn.Parameter(head.weight.detach()[rows], requires_grad=False)
        if head.bias is not None:
            cut.bias = torch.nn.Parameter(head.bias.detach()[rows], requires_grad=False)
    return _twin(model, {names[0]: cut}, model.config)


def _twin(module: Any, parts: dict[str, Any], config: Any) -> Any:
    """A module of the same class with other parts in places; its tables are its own, its weights are the module's."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = {**module._modules, **parts}
    twin.config = config
    return twin
