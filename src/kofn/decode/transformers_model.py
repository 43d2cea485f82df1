"""A transformers causal language model as decoders want it: NumPy logits, one cache that is reordered and cropped."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from kofn.core.block import Floats
from kofn.decode.model import Tokens, checked_prompt
from kofn.errors import DataError, MissingExtra, ParameterError, UsageError

_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(eq=False, slots=True)
class _Memory:
    """Keys and values of every layer, and how often they were changed."""

    cache: Any
    turn: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """What the model has read.

    Attributes
    ----------
    length : int
        Places in the cache.
    padding : int64 (B,)
        Places at the beginning of each row that hold nothing, because its prompt was shorter than the longest.
    """

    memory: _Memory
    turn: int
    length: int
    padding: Tokens

    def __len__(self) -> int:
        return len(self.padding)


class TransformersModel:
    """Any causal language model of transformers 5; satisfies `LanguageModel`.

    Prompts of different lengths are read in one pass, padded on the left. Every layer keeps all keys and values, those
    of a sliding window too: its mask hides what lies behind the window, and so the cache can be cropped at will.
    `select` moves rows and computes nothing. A state that was given to a call is used up, and using it again is an
    error. The model is never changed: one that is in training mode is in evaluation mode during a call only.

    A row's logits are the same in any batch up to rounding. With weights of 16 bits that rounding shows: the batch size
    changes the last bits of the logits, and a token that is drawn from them can change with it.

    A pass beyond `config.max_position_embeddings` places is an error where positions are rows of a table, which has no
    more of them; elsewhere (rotary positions) a warning, once a sequence, as the law there may be a poor one.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a causal output layer, on any device, in any precision.
    end : iterable of int, optional
        Tokens that end a sequence; by default `model.generation_config.eos_token_id`.

    Attributes
    ----------
    vocabulary : int
        V.
    end : frozenset of int
    width : int
        H, the length of embeddings and hidden states.

    Raises
    ------
    UsageError
        The model keeps something else than keys and values (recurrent layers): such a state cannot be taken back. Or it
        is no model of transformers.
    """

    def __init__(self, model: Any, *, end: Iterable[int] | None = None) -> None:
        from transformers import DynamicCache

        if not hasattr(model, "config") or not hasattr(model, "forward"):
            raise UsageError(
                f"the model is of type {type(model).__name__}, none of transformers; "
                "give one, or a folder to load: load(FOLDER)[0]"
            )
        config = model.config.get_text_config(decoder=True)
        if any(DynamicCache(config=config).is_linear):
            raise UsageError(
                f"{type(model).__name__} has recurrent layers, whose state cannot be rewound; give a transformer"
            )
        self.model = model
        self.vocabulary = int(config.vocab_size)
        self.width = int(config.hidden_size)
        self.end = _ends(model) if end is None else frozenset(int(token) for token in end)
        self._accepts = frozenset(inspect.signature(model.forward).parameters)
        self._places: int | None = getattr(config, "max_position_embeddings", None)
        self._table = self._places is not None and _has_table(model, self._places)

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, State]:
        """See `LanguageModel`. One pass; the output layer is computed at the last place alone."""
        outputs, state = self._start(prompts, hidden=False)
        return _numpy(outputs.logits[:, -1]), state

    def next_logits(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """See `LanguageModel`."""
        outputs, state = self._read(state, self._checked(tokens, state, 1)[:, None])
        return _numpy(outputs.logits[:, -1]), state

    def all_logits(self, tokens: Tokens, state: State) -> tuple[Floats, State]:
        """See `LanguageModel`."""
        outputs, state = self._read(state, self._checked(tokens, state, 2), last=False)
        return _numpy(outputs.logits), state

    def select(self, state: State, rows: Sequence[int] | Tokens) -> State:
        """See `LanguageModel`. The identity costs nothing; else keys and values of the rows are copied."""
        import torch

        wanted = np.asarray(rows, np.int64)
        _fresh(state)
        outside = (wanted < 0) | (wanted >= len(state))
        if outside.any() or not len(wanted):
            row = wanted[outside][0] if len(wanted) else "none"
            raise UsageError(
                f"row {row} was asked for of a state of {len(state)} sequences; give rows 0..{len(state) - 1}"
            )
        if np.array_equal(wanted, np.arange(len(state))):
            return state
        with torch.inference_mode():
            state.memory.cache.reorder_cache(torch.from_numpy(wanted))
        return _next(state, state.length, state.padding[wanted])

    def rewind(self, state: State, count: int) -> State:
        """See `LanguageModel`. The cache is cropped: nothing is computed or copied."""
        import torch

        _fresh(state)
        shortest = state.length - int(state.padding.max())
        if not 0 <= count <= shortest:
            raise UsageError(f"{count} tokens cannot be forgotten; the shortest sequence has {shortest}")
        with torch.inference_mode():
            state.memory.cache.crop(-int(count))
        return _next(state, state.length - int(count), state.padding)

    def start_with_hidden(self, prompts: Sequence[Sequence[int]]) -> tuple[Floats, tuple[Floats, ...], State]:
        """As `start`, with the last layer's hidden states of every token of each prompt: float32 (its length, H)."""
        outputs, state = self._start(prompts, hidden=True)
        hidden = _numpy(outputs.hidden_states[-1])
        rows = tuple(row[pad:] for row, pad in zip(hidden, state.padding, strict=True))
        return _numpy(outputs.logits[:, -1]), rows, state

    def next_with_hidden(self, tokens: Tokens, state: State) -> tuple[Floats, Floats, State]:
        """As `next_logits`, with the last layer's hidden states of the tokens: float32 (B, H), the output layer's input."""
        outputs, state = self._read(state, self._checked(tokens, state, 1)[:, None], hidden=True)
        return _numpy(outputs.logits[:, -1]), _numpy(outputs.hidden_states[-1][:, -1]), state

    def embed(self, tokens: Tokens | Sequence[int]) -> Floats:
        """Input embeddings as the model's layers take them, float32 (..., H): scaled, where the model scales them."""
        import torch

        table = self.model.get_input_embeddings()
        with torch.inference_mode():
            return _numpy(table(torch.as_tensor(np.asarray(tokens, np.int64), device=self.model.device)))

    def next_logits_of_embeddings(self, embeddings: Floats, state: State) -> tuple[Floats, State]:
        """As `next_logits`, with a vector (B, H) in the place of each token's embedding: a mixture, for instance."""
        import torch

        vectors = np.asarray(embeddings, np.float32)
        if vectors.shape != (len(state), self.width):
            raise UsageError(f"the embeddings have shape {vectors.shape}; give {(len(state), self.width)}")
        given = torch.from_numpy(vectors[:, None]).to(self.model.device, self.model.dtype)
        outputs, state = self._read(state, given)
        return _numpy(outputs.logits[:, -1]), state

    def _start(self, prompts: Sequence[Sequence[int]], *, hidden: bool) -> tuple[Any, State]:
        from transformers import DynamicCache

        if not len(prompts):
            raise UsageError("there is no prompt; give at least one")
        listed = [checked_prompt(prompt, self.vocabulary) for prompt in prompts]
        longest = max(map(len, listed))
        tokens = np.zeros((len(listed), longest), np.int64)
        for row, prompt in zip(tokens, listed, strict=True):
            row[longest - len(prompt) :] = prompt
        padding = np.array([longest - len(prompt) for prompt in listed], np.int64)
        return self._read(State(_Memory(DynamicCache()), 0, 0, padding), tokens, hidden=hidden)

    def _checked(self, tokens: Tokens, state: State, dimensions: int) -> Tokens:
        """Tokens of the right shape and inside the vocabulary."""
        given = np.asarray(tokens, np.int64)
        if given.ndim != dimensions or len(given) != len(state):
            raise UsageError(
                f"tokens of shape {given.shape} for a state of {len(state)} sequences; give one row for each"
            )
        outside = (given < 0) | (given >= self.vocabulary)
        if outside.any():
            raise UsageError(f"token {given[outside][0]} is outside the vocabulary 0..{self.vocabulary - 1}")
        return given

    def _read(self, state: State, given: Any, *, last: bool = True, hidden: bool = False) -> tuple[Any, State]:
        """The model's outputs for tokens (B, m) or embeddings (B, m, H), and the state after them."""
        import torch

        _fresh(state)
        places = np.arange(state.length + given.shape[1])
        self._within_places(len(places) - int(state.padding.min()), state.length - int(state.padding.min()))
        arguments: dict[str, Any] = {"past_key_values": state.memory.cache, "use_cache": True, "return_dict": True}
        if isinstance(given, np.ndarray):
            arguments["input_ids"] = self._tensor(given)
        else:
            arguments["inputs_embeds"] = given
        if "position_ids" in self._accepts:
            positions = places[state.length :] - state.padding[:, None]
            arguments["position_ids"] = self._tensor(np.maximum(positions, 0))
        if state.padding.any():
            arguments["attention_mask"] = self._tensor((places >= state.padding[:, None]).astype(np.int64))
        if last and "logits_to_keep" in self._accepts:
            arguments["logits_to_keep"] = 1
        if hidden:
            arguments["output_hidden_states"] = True
        with torch.inference_mode(), _evaluating(self.model):
            outputs = self.model(**arguments)
        return outputs, _next(state, len(places), state.padding)

    def _within_places(self, wanted: int, before: int) -> None:
        """An error or a warning where the longest row, of `before` tokens until now, outgrows the model's places.

        Not an error for every model: rotary positions are computed, and many are meant to go on. Configurations with
        scaled positions (YaRN, dynamic scaling) often keep the unscaled number here, and transformers' own `generate`
        goes on, too. A table of positions has no row for what comes after it: torch would fail with an index error, on a
        GPU in a way that ends the process.
        """
        if self._places is None or wanted <= self._places:
            return
        limit = f"{self._places} places of {type(self.model).__name__} (config.max_position_embeddings)"
        if self._table:
            raise UsageError(f"{wanted} tokens are more than the {limit}; give a shorter prompt or length")
        if before <= self._places:
            warnings.warn(
                f"the sequence goes beyond the {limit}, where its law may be poor; give a shorter prompt or length",
                stacklevel=2,
            )

    def _tensor(self, numbers: Tokens) -> Any:
        import torch

        return torch.from_numpy(numbers).to(self.model.device)


def load(path: str | Path, *, dtype: str = "float32") -> tuple[TransformersModel, Any]:
    """A model and its tokenizer from a folder that `save_pretrained` wrote; nothing is fetched.

    Parameters
    ----------
    path : str or Path
        The folder.
    dtype : {"float32", "bfloat16", "float16"}
        Precision of the weights in memory.

    Returns
    -------
    TransformersModel, transformers.PreTrainedTokenizerBase

    Raises
    ------
    MissingExtra
        torch or transformers is not installed.
    DataError
        The folder holds no model that transformers can read.
    """
    if dtype not in _DTYPES:
        raise ParameterError(f"dtype={dtype!r} is not a precision for weights; choose {', '.join(_DTYPES)}")
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra("language models need torch and transformers: pip install 'kofn[decode]'") from error
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise DataError(f"{path} holds no config.json; give a folder that a transformers model was saved to")
    with _quiet():
        # the tokenizer first: where it is missing, nobody waits for the weights
        tokenizer = _read(path, "tokenizer", lambda: AutoTokenizer.from_pretrained(folder, local_files_only=True))
        weights = {"dtype": getattr(torch, dtype), "local_files_only": True}
        model = _read(path, "causal language model", lambda: AutoModelForCausalLM.from_pretrained(folder, **weights))
    return TransformersModel(model), tokenizer


def _read(path: str | Path, what: str, read: Callable[[], Any]) -> Any:
    """What a folder holds, or the reason why it cannot be read, in one line."""
    try:
        return read()
    except Exception as error:  # whatever the files make transformers, safetensors or torch raise
        reason = shorten(str(error), 240, placeholder=" ...") or type(error).__name__
        raise DataError(f"{path} holds no {what} that transformers can read: {reason}") from error


def _ends(model: Any) -> frozenset[int]:
    """The model's own end tokens: a number, a list or none."""
    settings = getattr(model, "generation_config", None)
    ends = model.config.eos_token_id if settings is None else settings.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset([int(ends)] if isinstance(ends, int) else (int(token) for token in ends))


def _has_table(model: Any, places: int) -> bool:
    """Whether the model looks positions up in a table of so many rows, perhaps with a few more that are never asked for."""
    import torch

    tables = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]
    words = model.get_input_embeddings()
    return any(each.num_embeddings - getattr(each, "offset", 0) == places for each in tables if each is not words)


def _fresh(state: State) -> None:
    """An error for a state whose cache has gone on since."""
    if state.turn != state.memory.turn:
        raise UsageError(
            "this state was used up by a later call; use the newest, or ask select for [0, 0] to go two ways"
        )


def _next(state: State, length: int, padding: Tokens) -> State:
    state.memory.turn += 1
    return State(state.memory, state.memory.turn, length, padding)


def _numpy(tensor: Any) -> Floats:
    """Float32 in main memory; shared with the tensor where it is that already."""
    import torch

    array: Floats = tensor.detach().to("cpu", torch.float32).numpy()
    return array


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of transformers' own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
