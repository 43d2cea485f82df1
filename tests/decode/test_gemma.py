"""Gemma 3 270M: rules on real laws, generate, and what the command line prints."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as warpers

from decode.gemma import gemma_folder
from kofn.cli import main
from kofn.core.block import Floats
from kofn.decode import Entropy, Epsilon, Eta, MinP, Temperature, TopH, TopK, TopNSigma, TopP, Typical
from kofn.decode.rules.rule import Rule
from kofn.decode.sequences.sampling import Sampling
from kofn.decode.transformers_model import TransformersModel, load

TEXT = """A library is a collection of books, and possibly other materials and media, that is accessible for use by its
members and members of allied institutions. Libraries provide physical or digital materials, and may be a physical
location, a virtual space, or both. The first of them were kept by temples; clay tablets were sorted by"""


@pytest.fixture(scope="module")
def gemma() -> tuple[TransformersModel, Any]:
    return load(gemma_folder())


@pytest.fixture(scope="module")
def logits(gemma: tuple[TransformersModel, Any]) -> Floats:
    model, tokenizer = gemma
    tokens = tokenizer(TEXT).input_ids
    _, state = model.start([tokens[:1]])
    rows, _ = model.all_logits(np.array([tokens[1:]]), state)
    return rows[0]


PAIRS = [
    (TopK(64), warpers.TopKLogitsWarper(64)),
    (TopP(0.9), warpers.TopPLogitsWarper(0.9)),
    (TopP(0.95), warpers.TopPLogitsWarper(0.95)),
    (MinP(0.1), warpers.MinPLogitsWarper(0.1)),
    (Typical(0.9), warpers.TypicalLogitsWarper(0.9)),
    (Epsilon(3e-4), warpers.EpsilonLogitsWarper(3e-4)),
    (Eta(3e-4), warpers.EtaLogitsWarper(3e-4)),
]


@pytest.mark.parametrize(("rule", "warper"), PAIRS, ids=[repr(rule) for rule, _ in PAIRS])
def test_rules_keep_of_real_laws_what_transformers_keeps(logits: Floats, rule: Rule, warper: Any) -> None:
    for row in torch.from_numpy(logits[::2]):
        ours, theirs = torch.isfinite(rule(row)), torch.isfinite(warper(None, row[None].clone())[0])
        if not torch.equal(ours, theirs):
            p = torch.softmax(row.double(), -1)
            share = getattr(rule, "p", getattr(rule, "mass", math.nan))
            held = float(p[ours & theirs].sum())
            # theirs are sums of 262,144 floats in float32, off by up to 1e-5: ours must be right in double precision
            at_the_share = abs(held - share) < 2e-5 and float(p[ours].sum()) >= share - 2e-7
            at_the_edge = ((p[ours != theirs] - p[theirs].min()).abs() < 1e-6).all()
            assert at_the_share or at_the_edge


def test_top_n_sigma_does_not_move_with_temperature_and_top_p_does(logits: Floats) -> None:
    sizes = []
    for t in (0.5, 1.0, 2.0, 5.0):
        assert np.array_equal((Temperature(t) | TopNSigma(1.0))(logits) > -np.inf, TopNSigma(1.0)(logits) > -np.inf)
        sizes.append(int((TopP(0.9)(logits / np.float32(t)) > -np.inf).sum()))
    assert sizes == sorted(sizes)
    assert sizes[-1] > 100 * sizes[0]


def test_top_h_keeps_to_its_bound(logits: Floats) -> None:
    assert (Entropy()(TopH(0.4)(logits)) <= 0.4 * Entropy()(logits) + 1e-6).all()


def test_eta_keeps_more_than_top_p_where_the_model_is_nearly_sure(logits: Floats) -> None:
    p = np.exp(-Entropy()(logits))
    sure = logits[np.argsort(p)[-20:]]
    top_p, eta = TopP(0.95)(sure) > -np.inf, Eta(3e-4)(sure) > -np.inf
    assert eta.sum() > 2 * top_p.sum()


def test_generate_of_transformers_runs_the_rule_alone(gemma: tuple[TransformersModel, Any], monkeypatch: Any) -> None:
    model, tokenizer = gemma
    for name, value in (("top_k", 64), ("top_p", 0.95)):  # what Gemma ships and would run in silence
        monkeypatch.setattr(model.model.generation_config, name, value)
    rule = MinP(0.05) | Temperature(1.5)
    out = model.model.generate(
        **tokenizer("The library of", return_tensors="pt"), max_new_tokens=4, output_scores=True, output_logits=True,
        return_dict_in_generate=True, **rule.generate_kwargs(),
    )  # fmt: skip
    for scores, raw in zip(out.scores, out.logits, strict=True):
        assert torch.equal(scores, rule(raw.float()))


def test_log_probabilities_are_those_of_a_fresh_forward_pass(gemma: tuple[TransformersModel, Any]) -> None:
    model, tokenizer = gemma
    prompt = tokenizer("The library of").input_ids
    found = Sampling(rule=TopK(30)).generate(model, prompt, 3, length=8, seed=5)
    for tokens, logprob in zip(found.tokens, found.logprobs, strict=True):
        with torch.inference_mode():
            whole = model.model(torch.tensor([[*prompt, *tokens.tolist()]])).logits[0].float().numpy()
        laws = TopK(30)(whole[len(prompt) - 1 : -1]).astype(np.float64)
        steps = laws[np.arange(len(tokens)), tokens] - np.log(np.exp(laws).sum(axis=1))
        assert logprob == pytest.approx(steps.sum(), abs=1e-4)


def test_the_token_table_shows_where_each_rule_cuts(
    gemma: tuple[TransformersModel, Any], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    words = ["tokens", "The capital of France is", "--model", str(gemma_folder()), "--top", "12"]  # as users do
    assert main([*words, "--rule", "minp=0.1", "--rule", "minp=0.5", "--temperature", "1,2"]) == 0
    out = capsys.readouterr().out
    assert "Paris" in out
    assert out.count("──────") >= 2
    assert re.search(r"temperature 2: entropy \d", out)
    monkeypatch.setattr("kofn.commands_decode._load", lambda path, dtype: gemma)  # loading again would show nothing new
    assert main([*words, "--rule", "minp=0.1", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert table["tokens"][0]["text"].strip() == "the"
    kept = [each for each in table["tokens"] if each["probability"] >= 0.1 * table["tokens"][0]["probability"]]
    assert table["rules"]["minp=0.1"]["kept"] == len(kept)
    assert table["rules"]["minp=0.1"]["mass"] == pytest.approx(sum(each["probability"] for each in kept), rel=1e-5)
    assert sum(each["after"]["minp=0.1"] for each in table["tokens"]) == pytest.approx(1, rel=1e-5)


def test_generate_prints_what_it_draws_again(
    gemma: tuple[TransformersModel, Any], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", lambda path, dtype: gemma)
    words = ["generate", "Once upon a time", "--model", str(gemma_folder()), "--length", "5", "--n", "2", "--seed", "3"]
    found = []
    for _ in range(2):
        assert main([*words, "--rule", "minp=0.1|temp=1.5", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert len(found[0]["sequences"]) == 2
    assert all(math.isfinite(each["logprob"]) and each["logprob"] < 0 for each in found[0]["sequences"])
    assert main([*words, "--rule", "minp=0.1|temp=1.5"]) == 0
    out = capsys.readouterr().out
    assert found[0]["sequences"][1]["text"].strip().splitlines()[0] in out
    assert f"log-probability {found[0]['sequences'][0]['logprob']:.4f}" in out
