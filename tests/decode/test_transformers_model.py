from __future__ import annotations

import copy
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from decode.gemma import Pieces, merges, tokenizer
from decode.tiny import END, VOCABULARY, WINDOW, tiny_gemma, tiny_gpt2, tiny_llama
from kofn.decode.sequences.sampling import Greedy, Sampling
from kofn.decode.transformers_model import TransformersModel, load
from kofn.errors import DataError, MissingExtra, ParameterError, UsageError

ARCHITECTURES = {"gemma": tiny_gemma, "gpt2": tiny_gpt2, "llama": tiny_llama}


@pytest.fixture(params=sorted(ARCHITECTURES))
def network(request: pytest.FixtureRequest) -> Any:
    return ARCHITECTURES[request.param]()


def tokens_of(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(8, VOCABULARY, shape)


def fresh(network: Any, tokens: Any) -> np.ndarray:
    """Logits of a whole sequence, without any cache: the obvious twin."""
    with torch.no_grad():
        return network(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0].numpy()


def close(actual: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(actual, wanted, atol=1e-4, rtol=0)


def test_logits_after_every_step_are_those_of_a_fresh_forward_also_behind_the_window(network: Any) -> None:
    tokens = tokens_of(1, 3 * WINDOW)
    model = TransformersModel(network)
    logits, state = model.start([tokens[:4]])
    wanted = fresh(network, tokens)
    close(logits[0], wanted[3])
    for place in range(4, len(tokens)):
        logits, state = model.next_logits(tokens[place : place + 1], state)
        close(logits[0], wanted[place])
    assert logits.dtype == np.float32


def test_the_window_matters_to_the_tiny_gemma() -> None:
    tokens = tokens_of(1, 3 * WINDOW)
    network, wide = tiny_gemma(), tiny_gemma()
    wide.config.sliding_window = 4 * WINDOW
    for layer in wide.model.layers:
        if layer.self_attn.sliding_window is not None:
            layer.self_attn.sliding_window = 4 * WINDOW
    assert np.abs(fresh(network, tokens)[-1] - fresh(wide, tokens)[-1]).max() > 1e-2


def test_ragged_prompts_are_read_as_if_each_were_alone(network: Any) -> None:
    model = TransformersModel(network)
    rows = [tokens_of(row, length) for row, length in enumerate((3, 2 * WINDOW + 5, 1, WINDOW))]
    logits, state = model.start(rows)
    for step in range(WINDOW + 3):
        for row, tokens in enumerate(rows):
            close(logits[row], fresh(network, tokens)[-1])
        new = tokens_of(100 + step, len(rows))
        rows = [np.append(tokens, token) for tokens, token in zip(rows, new, strict=True)]
        logits, state = model.next_logits(new, state)


def test_selected_rows_go_on_where_they_stood_also_repeated_and_reordered(network: Any) -> None:
    model = TransformersModel(network)
    rows = [tokens_of(row, length) for row, length in enumerate((5, WINDOW + 4, 2))]
    _, state = model.start(rows)
    state = model.select(state, [2, 0, 2, 1, 1])
    rows = [rows[row] for row in (2, 0, 2, 1, 1)]
    for step in range(3):
        new = tokens_of(50 + step, 5)
        rows = [np.append(tokens, token) for tokens, token in zip(rows, new, strict=True)]
        logits, state = model.next_logits(new, state)
    state = model.select(state, [4, 1])
    rows = [rows[4], rows[1]]
    logits, state = model.next_logits(np.array([9, 10]), state)
    close(logits[0], fresh(network, [*rows[0], 9])[-1])
    close(logits[1], fresh(network, [*rows[1], 10])[-1])


def test_several_tokens_in_one_pass_and_a_rewind_equal_a_fresh_forward(network: Any) -> None:
    model = TransformersModel(network)
    rows = [tokens_of(row, length) for row, length in enumerate((WINDOW + 2, 4))]
    _, state = model.start(rows)
    new = tokens_of(9, 2, WINDOW + 1)
    logits, state = model.all_logits(new, state)
    for row in range(2):
        close(logits[row], fresh(network, [*rows[row], *new[row]])[-WINDOW - 1 :])
    state = model.rewind(state, WINDOW - 2)
    state = model.select(state, [1, 0, 1])
    logits, state = model.next_logits(np.array([20, 21, 22]), state)
    for place, (row, token) in enumerate(((1, 20), (0, 21), (1, 22))):
        close(logits[place], fresh(network, [*rows[row], *new[row, :3], token])[-1])


def test_the_identity_returns_the_same_state_and_no_tokens_are_forgotten_for_nothing(network: Any) -> None:
    model = TransformersModel(network)
    _, state = model.start([[9, 10], [11]])
    assert model.select(state, [0, 1]) is state
    logits, _ = model.next_logits(np.array([12, 13]), model.rewind(state, 0))
    close(logits[1], fresh(network, [11, 13])[-1])


def test_embeddings_of_tokens_give_the_logits_of_the_tokens(network: Any) -> None:
    model = TransformersModel(network)
    prompts = [[9, 10, 11], [12]]
    vectors = model.embed([20, 21])
    assert vectors.shape == (2, model.width)
    logits, state = model.next_logits_of_embeddings(vectors, model.start(prompts)[1])
    close(logits[0], fresh(network, [9, 10, 11, 20])[-1])
    close(logits[1], fresh(network, [12, 21])[-1])
    half, _ = model.next_logits_of_embeddings((vectors + vectors[::-1]) / 2, state)
    assert np.abs(half[0] - half[1]).max() > 1e-3


def test_hidden_states_are_what_the_output_layer_turns_into_logits(network: Any) -> None:
    model = TransformersModel(network)
    prompts = [[9, 10, 11, 12], [13, 14]]
    logits, hidden, state = model.start_with_hidden(prompts)
    head = network.get_output_embeddings().weight.detach().numpy()
    assert [part.shape for part in hidden] == [(4, model.width), (2, model.width)]
    for row, prompt in enumerate(prompts):
        close(hidden[row] @ head.T, fresh(network, prompt))
        close(logits[row], fresh(network, prompt)[-1])
    logits, last, _ = model.next_with_hidden(np.array([15, 16]), state)
    close(last @ head.T, logits)
    close(logits[1], fresh(network, [13, 14, 16])[-1])


def test_the_output_layer_is_computed_at_the_last_place_alone(network: Any) -> None:
    widths = []
    network.get_output_embeddings().register_forward_hook(lambda module, given, out: widths.append(out.shape[:2]))
    model = TransformersModel(network)
    _, state = model.start([[9, 10, 11], [12, 13]])
    _, _, state = model.next_with_hidden(np.array([14, 15]), state)
    assert widths == [(2, 1), (2, 1)]


def test_a_state_that_was_used_up_is_an_error(network: Any) -> None:
    model = TransformersModel(network)
    _, old = model.start([[9], [10]])
    _, new = model.next_logits(np.array([11, 12]), old)
    with pytest.raises(UsageError, match="used up"):
        model.next_logits(np.array([11, 12]), old)
    model.select(new, [1, 0])
    for call in (lambda: model.select(new, [0]), lambda: model.rewind(new, 1)):
        with pytest.raises(UsageError, match="used up"):
            call()


def test_the_callers_model_is_left_as_it_was(network: Any) -> None:
    network.train()
    network.get_input_embeddings().eval()
    modes = [module.training for module in network.modules()]
    names, config = sorted(vars(network)), copy.deepcopy(network.config.to_dict())
    model = TransformersModel(network)
    logits, state = model.start([[9, 10]])
    model.next_with_hidden(np.array([11]), model.select(state, [0]))
    assert [module.training for module in network.modules()] == modes
    assert sorted(vars(network)) == names
    assert network.config.to_dict() == config
    close(logits[0], fresh(network.eval(), [9, 10])[-1])


def test_training_mode_does_not_drop_anything_out() -> None:
    network = tiny_llama()
    wanted = fresh(network, [9, 10, 11])[-1]
    for layer in network.model.layers:
        layer.self_attn.attention_dropout = 0.5
    close(TransformersModel(network.train()).start([[9, 10, 11]])[0][0], wanted)


def test_end_is_the_models_own_or_the_callers() -> None:
    network = tiny_llama()
    assert TransformersModel(network).end == {END}
    network.generation_config.eos_token_id = [3, 4]
    assert TransformersModel(network).end == {3, 4}
    assert TransformersModel(network, end=[5]).end == {5}
    assert TransformersModel(network, end=()).end == frozenset()
    network.generation_config.eos_token_id = None
    assert TransformersModel(network).end == frozenset()


def test_bfloat16_weights_give_float32_logits() -> None:
    network = tiny_llama().to(torch.bfloat16)
    model = TransformersModel(network)
    logits, state = model.start([[9, 10]])
    more, _ = model.next_logits_of_embeddings(model.embed([11]), state)
    assert logits.dtype == more.dtype == np.float32
    assert np.abs(more[0] - fresh(network.float(), [9, 10, 11])[-1]).max() < 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.start([]), "no prompt"),
        (lambda model: model.start([[9], []]), "no token"),
        (lambda model: model.start([[VOCABULARY]]), "outside the vocabulary"),
        (lambda model: model.next_logits(np.array([9]), model.start([[9], [9]])[1]), "2 sequences"),
        (lambda model: model.next_logits(np.array([-1]), model.start([[9]])[1]), "token -1"),
        (lambda model: model.all_logits(np.array([9]), model.start([[9]])[1]), "shape"),
        (lambda model: model.select(model.start([[9]])[1], [1]), "row 1"),
        (lambda model: model.select(model.start([[9]])[1], []), "row none"),
        (lambda model: model.rewind(model.start([[9, 9], [9]])[1], 2), "shortest sequence has 1"),
        (lambda model: model.next_logits_of_embeddings(np.zeros((1, 3)), model.start([[9]])[1]), r"\(1, 32\)"),
    ],
)
def test_mistakes_are_told(call: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call(TransformersModel(tiny_llama()))


def test_a_recurrent_model_is_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=16, state_size=4, num_hidden_layers=1)
    with pytest.raises(UsageError, match="recurrent"):
        TransformersModel(MambaForCausalLM(config))


def test_load_reads_a_saved_model_with_its_tokenizer(tmp_path: Any) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    network = tiny_llama()
    network.save_pretrained(tmp_path)
    words = {f"w{token}": token for token in range(VOCABULARY)}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w0"))).save_pretrained(tmp_path)
    model, tokenizer = load(tmp_path)
    assert tokenizer("w9").input_ids == [9]
    close(model.start([[9, 10]])[0][0], fresh(network, [9, 10])[-1])
    assert load(str(tmp_path), dtype="bfloat16")[0].model.dtype == torch.bfloat16
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])
    with pytest.raises(DataError, match="no causal language model"):
        load(tmp_path)


def test_load_says_what_is_missing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"no tokenizer that transformers can read: \w"):
        load(tmp_path)
    with pytest.raises(ParameterError, match="float8"):
        load(tmp_path, dtype="float8")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'kofn\[decode\]'"):
        load(tmp_path)


def test_the_gemma_fixtures_tokenizer_merges_the_best_scored_pieces_first() -> None:
    scored = {"a": -3.0, "b": -3.0, "c": -3.0, "ab": -2.0, "bc": -1.0, "abc": -4.0, "\u2581": -3.0}
    special = {"<pad>": 3, "<eos>": 3, "<bos>": 3, "<unk>": 2, "bca": 4}
    given = Pieces([*special, *scored], [0.0] * 5 + list(scored.values()), [*special.values(), *[1] * 7])
    assert merges(given) == [("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc")]
    made = tokenizer(given)
    assert made.convert_ids_to_tokens(made("abc ab").input_ids) == ["<bos>", "abc", "\u2581", "ab"]
    assert made.convert_ids_to_tokens(made("aabcc").input_ids) == ["<bos>", "a", "abc", "c"]
    # a user-defined piece is cut out before any merge
    assert made.convert_ids_to_tokens(made("abcab").input_ids) == ["<bos>", "a", "bca", "b"]
    assert made.decode(made("abc ab").input_ids[1:]) == "abc ab"


def test_what_is_no_network_is_told_by_its_type() -> None:
    for wrong in ("folder", None, TransformersModel(tiny_llama())):
        with pytest.raises(
            UsageError, match=rf"of type {type(wrong).__name__}, none of transformers; .*load\(FOLDER\)"
        ):
            TransformersModel(wrong)


def tiny_opt() -> Any:
    from transformers import OPTConfig, OPTForCausalLM

    places = {"max_position_embeddings": 128, "ffn_dim": 32, "word_embed_proj_dim": 32}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 4}
    return OPTForCausalLM(OPTConfig(vocab_size=VOCABULARY, hidden_size=32, **places, **heads)).eval()


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_opt])
def test_a_table_of_positions_can_be_used_up_and_not_outgrown(make: Any) -> None:
    """OPT's table has two rows more than it has places."""
    model = TransformersModel(make())
    tokens = tokens_of(1, 128)
    _, state = model.start([tokens[:127], tokens[:3]])
    _, state = model.next_logits(tokens[[127, 3]], state)
    with pytest.raises(UsageError, match=r"129 tokens are more than the 128 places of .*a shorter prompt or length"):
        model.next_logits(tokens[:2], state)
    with pytest.raises(UsageError, match="130 tokens"):
        model.all_logits(tokens[:4].reshape(2, 2), state)
    with pytest.raises(UsageError, match="131 tokens"):
        model.start([tokens_of(2, 131)])
    # what is padding to the longer row takes no place of the shorter one, and nothing was used up by the errors
    logits, _ = model.next_logits(tokens[4:5], model.select(state, [1]))
    close(logits[0], fresh(model.model, tokens[:5])[-1])


def test_a_decoder_that_runs_out_of_places_says_so_and_one_that_just_fits_does_not() -> None:
    model = TransformersModel(tiny_gpt2(), end=[])
    assert len(Sampling().generate(model, tokens_of(1, 120), 2, length=9).tokens[0]) == 9  # the last is not read
    with pytest.raises(UsageError, match="129 tokens are more than the 128 places"):
        Sampling().generate(model, tokens_of(1, 120), 2, length=10)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gemma])
def test_computed_positions_go_on_beyond_the_limit_with_one_warning_a_sequence(make: Any) -> None:
    network = make()
    network.config.max_position_embeddings = 16
    model = TransformersModel(network, end=[])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Greedy().generate(model, tokens_of(1, 12), length=5)
    with pytest.warns(UserWarning, match=r"beyond the 16 places of .*give a shorter prompt or length") as told:
        found = Greedy().generate(model, tokens_of(1, 12), length=9)
    assert len(told) == 1
    assert len(found.tokens[0]) == 9
    with pytest.warns(UserWarning, match="beyond the 16 places"):
        logits, _ = model.start([tokens_of(1, 17)])
    close(logits[0], fresh(network, tokens_of(1, 17))[-1])
