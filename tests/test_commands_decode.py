"""The commands tokens, rules and generate: what they say to those who mistype, and how numbers are written."""

import json

import numpy as np
import pytest

from kofn.cli import main
from kofn.commands_decode import bar, percent, watched
from kofn.decode import MarkovModel
from kofn.decode.table import RULES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tokens", "hi", "--model", "nowhere"], "nowhere holds no config.json"),
        (["tokens", "hi", "--model", "nowhere", "--rule", "toop=0.9"], "did you mean topp"),
        (["tokens", "hi", "--model", "nowhere", "--temperature", "hot"], "write for example 0.7,1,1.5"),
        (["tokens", "hi", "--model", "nowhere", "--top", "0"], "give at least 1"),
        (["generate", "hi", "--model", "nowhere", "--decoder", "bean"], "did you mean beam"),
        (["generate", "hi", "--model", "nowhere", "--decoder", "greedy", "--rule", "topk=5"], "takes no rule"),
        (["generate", "hi", "--model", "nowhere", "--decoder", "beam", "--set", "widht=5"], "no parameter 'widht'"),
        (["generate", "hi", "--model", "nowhere", "--decoder", "beam", "--set", "width=five"], "width"),
        (["generate", "hi", "--model", "nowhere", "--dtype", "int4"], "choose float32"),
    ],
)
def test_a_mistake_is_one_line_with_its_mend(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) <= 2


def test_rules_lists_every_rule_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["rule"] for row in rows] == list(RULES)
    assert all(len(row["idea"]) > 20 for row in rows)
    assert main(["rules"]) == 0
    out = capsys.readouterr().out
    assert all(row["example"] in out for row in rows)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (1.0, "100 %"), (0.5, "50.0 %"), (0.0912, "9.12 %"), (0.000123456, "0.0123 %"), (0.0, "0 %"), (2e-9, "2e-07 %"),
        (0.99999, "99.9990 %"), (0.99999999, "> 99.9999 %"),
    ],
)  # fmt: skip
def test_shares_have_three_digits_and_never_round_up_to_all(p: float, text: str) -> None:
    assert percent(p) == text


def test_bars_grow_by_eighths() -> None:
    assert bar(1.0) == "█" * 16
    assert bar(0.5) == "█" * 8
    assert bar(1 / 128) == "▏"
    assert bar(0.0) == "▏"


class Letters:
    """A tokenizer of the letters a to j."""

    def __call__(self, text: str) -> "Letters":
        self.input_ids = [ord(letter) - ord("a") for letter in text]
        return self

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(chr(token + ord("a")) for token in tokens)


def loaded(path: str, dtype: str) -> tuple[MarkovModel, Letters]:
    table = np.random.default_rng(0).dirichlet(np.ones(10), size=10)
    return MarkovModel(table), Letters()


def test_a_pattern_is_matched_by_what_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", loaded)
    words = ["generate", "abc", "--model", ".", "--decoder", "priority", "--n", "4", "--length", "3"]
    assert main([*words, "--set", "pattern=[d-f]+", "--json"]) == 0
    texts = [each["text"] for each in json.loads(capsys.readouterr().out)["sequences"]]
    assert len(set(texts)) == 4
    assert all(set(text) <= set("def") for text in texts)


def test_beams_tell_their_inclusion_and_an_empty_prompt_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", loaded)
    assert main(["generate", "abc", "--model", ".", "--decoder", "stochastic-beam", "--n", "3", "--length", "4"]) == 0
    out = capsys.readouterr().out
    assert out.count("inclusion") == 3
    assert "3 sequences, 12 tokens" in out
    assert main(["generate", "", "--model", "."]) == 2
    assert "empty" in capsys.readouterr().err


def test_passes_are_counted_on_a_copy() -> None:
    model, seen = MarkovModel([[0.5, 0.5], [0.5, 0.5]]), list[int]()
    counting = watched(model, seen.append)
    logits, state = counting.start([[0]])
    counting.next_logits(logits.argmax(1), state)
    assert seen == [1, 2]
    assert "start" not in vars(model)
