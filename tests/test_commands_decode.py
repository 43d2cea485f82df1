"""The commands tokens, rules and generate: what they say to those who mistype, and how numbers are written."""

import io
import json
import math
from itertools import pairwise

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
        (["generate", "hi", "--model", "nowhere", "--decoder", "beam", "--set", "width"], "write --set width=VALUE"),
        (["generate", "hi", "--model", "nowhere", "--rule", "topp=0.9", "--rule", "minp=0.1"], "'topp=0.9|minp=0.1'"),
        (["generate", "hi", "--model", "nowhere", "--rule", "topk=5|knnlm=0.2"], "it is for Python"),
        (["tokens", "hi", "--model", "nowhere", "--rule", "klguided=1,half_life=2"], "it is for Python"),
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


RULED = ("topp=0.9", "minp=0.1", "toph=0.4", "typical=0.2", "temp=1.5|minp=0.1")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_the_token_table_fits_its_screen_and_loses_nothing(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", loaded)
    monkeypatch.setenv("COLUMNS", str(width))
    words = ["tokens", "b", "--model", "markov", *(word for rule in RULED for word in ("--rule", rule))]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= width
    assert "…" not in out
    kept = [line.split()[2:] for line in out.splitlines() if line.split()[:2] == ["kept", "tokens"]]
    assert [int(number) for numbers in kept for number in numbers] == [table["rules"][rule]["kept"] for rule in RULED]
    assert len(kept) == {40: 5, 60: 2}.get(width, 1)


def test_in_a_pipe_the_token_table_is_as_wide_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", loaded)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["tokens", "b", "--model", "markov", *(word for rule in 2 * RULED for word in ("--rule", rule))]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) > 100
    assert out.count("kept tokens") == 1
    assert "█" * 16 in out


def test_a_dash_reads_the_prompt_from_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", loaded)
    found = []
    for prompt in ("cab", "-"):
        monkeypatch.setattr("sys.stdin", io.StringIO("cab\n"))
        assert main(["generate", prompt, "--model", "markov", "--length", "3", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert found[0]["prompt"] == "cab"


def test_log_probabilities_before_and_after_the_rule_are_both_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", loaded)
    words = ["generate", "b", "--model", "markov", "--length", "4", "--seed", "5"]
    assert main([*words, "--rule", "topk=2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["sequences"]
    model, _ = loaded("", "")
    path = [1, *row["tokens"]]
    own = sum(math.log(model.table[a, b]) for a, b in pairwise(path))
    assert row["model_logprob"] == pytest.approx(own, abs=1e-5)
    assert row["model_logprob"] < row["logprob"]
    assert main([*words, "--rule", "topk=2"]) == 0
    out = capsys.readouterr().out
    assert f"log-probability {row['logprob']:.4f} after the rule" in out
    assert f"{own:.4f} before" in out
    assert main(words) == 0
    assert "the rule" not in capsys.readouterr().out


def test_fewer_sequences_than_asked_for_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kofn.commands_decode._load", loaded)
    words = ["generate", "b", "--model", "markov", "--length", "2", "--decoder", "priority", "--set", "pattern=[ab]c"]
    assert main([*words, "--n", "5"]) == 0
    assert "2 of 5 sequences: there are no more" in capsys.readouterr().out
