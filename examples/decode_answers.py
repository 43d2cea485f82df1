"""Choosing among answers: theory on simulated responders, and a real model with programmatic rewards.

    python examples/decode_answers.py                   # half a minute, numpy and scipy
    python examples/decode_answers.py --model FOLDER    # and some minutes with a transformers folder on two cores

Every draw comes from a seed: two runs on one machine print the same figures.
"""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from kofn.decode.answers import (
    BestOfNTilt,
    BetaBinomial,
    BoNBoN,
    ExponentialTilt,
    QProbe,
    SampleScrutinize,
    best_of_n,
    best_of_n_kl,
    best_of_n_kl_bound,
    best_of_n_kl_estimate,
    best_of_n_law,
    best_of_n_win_rate,
    coverage_curve,
    fit_beta_binomial,
    fit_power_law,
    forecast_coverage,
    g_pass_at_k,
    majority_vote,
    mean_g_pass_at_k,
    pass_all_k,
    pass_at_k,
    reward_tilt,
    sample_and_verify,
    soft_best_of_n_law,
    weighted_vote,
)
from kofn.rng import Rng


def main() -> None:
    """Theory, then the model if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder that transformers' AutoModelForCausalLM can load")
    args = parser.parse_args()
    began = time.perf_counter()
    for part in (kl_of_best_of_n, tilts, bonbon, soft, scrutiny, forecasts):
        print(f"\n## {part.__doc__}\n")
        part()
    print(f"\n(simulations: {time.perf_counter() - began:.0f} s)")
    if args.model:
        real_model(args.model)


def kl_of_best_of_n() -> None:
    """KL of best-of-n: exact, its estimate from 2,000 winners, its bound (50 outcomes, Dirichlet 0.1)"""
    rng = np.random.default_rng(0)
    p, rewards = rng.dirichlet(np.full(50, 0.1)), rng.permutation(50).astype(float)
    print("    n   exact  estimate (s.e.)   bound   win rate   n/(n+1)")
    for n in (2, 4, 16, 64, 256, 1024):
        winners = rng.choice(50, size=2000, p=best_of_n_law(p, rewards, n))
        found = best_of_n_kl_estimate(np.log(p[winners]), n)
        exact, win = best_of_n_kl(p, rewards, n), best_of_n_win_rate(p, rewards, n)
        print(
            f"{n:5d}  {exact:6.3f}    {found.value:6.3f} ({found.standard_error:.3f})  {best_of_n_kl_bound(n):6.3f}",
            end="",
        )
        print(f"     {win:.4f}    {n / (n + 1):.4f}")


def tilts() -> None:
    """Win rate of best-of-n and of the best tilt at the same KL (continuous reward)"""
    print("   n      KL   best-of-n   exponential tilt of the rank   difference")
    for n in (2, 4, 8, 16, 64):
        base = BestOfNTilt(n)
        tilt = ExponentialTilt.at_kl(base.kl)
        print(f"{n:4d}  {base.kl:6.3f}     {base.win_rate:.4f}     {tilt.win_rate:.4f} (rate {tilt.rate:6.2f})", end="")
        print(f"            {tilt.win_rate - base.win_rate:.5f}")


def bonbon() -> None:
    """BoNBoN on a softmax bandit of 20 outcomes: distance (TV) of the trained policy from best-of-n"""
    p = np.random.default_rng(0).dirichlet(np.ones(20))
    alphas = (0.0, 0.005, 0.5, 0.9, 0.99, 1.0)
    print("   n   base law" + "".join(f"{f'alpha {alpha}':>14}" for alpha in alphas))
    for n in (2, 4, 8):
        law = best_of_n_law(p, np.arange(20), n)
        found = [0.5 * np.abs(train_bandit(p, n, alpha) - law).sum() for alpha in alphas]
        print(f"{n:4d}     {0.5 * np.abs(p - law).sum():.4f}" + "".join(f"{value:14.4f}" for value in found))


def train_bandit(p: np.ndarray, n: int, alpha: float) -> np.ndarray:
    """The optimum of the loss over 200,000 drawn sets of n, rewards rising with the outcome's number."""
    from scipy.optimize import minimize

    draws = np.random.default_rng(1).choice(len(p), size=(200_000, n), p=p)
    pairs, times = np.unique(np.stack([draws.max(axis=1), draws.min(axis=1)]), axis=1, return_counts=True)
    loss = BoNBoN(n=n, alpha=alpha)
    options = {"maxiter": 20_000, "maxfun": 50_000, "ftol": 1e-14}
    found = minimize(
        lambda x: loss.bandit_loss(x, p, *pairs, times), np.log(p), jac=True, method="L-BFGS-B", options=options
    )
    law = np.exp(found.x - found.x.max())
    return np.asarray(law / law.sum())


def soft() -> None:
    """Soft best-of-n, temperature 0.1, rewards uniform on [0, 1]: distance (TV) from its two limits"""
    rng = np.random.default_rng(0)
    p, rewards = rng.dirichlet(np.ones(30)), rng.uniform(size=30)
    tilt = reward_tilt(p, rewards, 0.1).law
    print(
        f"   n   E[reward]   TV to the tilt   TV to best-of-n     (base {p @ rewards:.3f}, tilt {tilt @ rewards:.3f})"
    )
    for n in (1, 4, 16, 64, 256):
        law, best = soft_best_of_n_law(p, rewards, n, 0.1), best_of_n_law(p, rewards, n)
        print(f"{n:4d}      {law @ rewards:.4f}           {0.5 * np.abs(law - tilt).sum():.4f}", end="")
        print(f"            {0.5 * np.abs(law - best).sum():.4f}")


def scrutiny() -> None:
    """Nine answers, a quarter of them right: share of 2,000 questions answered right (standard error at most 0.011)"""
    # Right, a mistake that looks right, other mistakes: how often each is drawn, and how often the verifier passes it.
    alike, tempting = ((0.25, 0.0, 0.75), (0.8, 0.8, 0.4)), ((0.25, 0.25, 0.5), (0.8, 0.8, 0.4))
    # How often a comparison sees that the right answer is better than either kind of mistake.
    columns = {
        "separates, 30 times": Judge(*alike, (0.8, 0.8), verifications=30),
        "separates, 5 times": Judge(*alike, (0.8, 0.8), verifications=5),
        "fooled, 30 times": Judge(*tempting, (0.8, 0.8), verifications=30),
        "both fooled": Judge(*tempting, (0.5, 0.8), verifications=30),
    }
    found = {}
    for name, judge in columns.items():
        rng = np.random.default_rng(0)
        asked = [judge.ask(rng) for _ in range(2000)]
        found[name] = {way: np.array([each[way] for each in asked], float) for way in asked[0]}
    print(f"{'verifier':34}" + "".join(f"{name:>21}" for name in columns))
    for way in next(iter(found.values())):
        print(f"{way:34}" + "".join(f"{hits[way].mean():21.3f}" for hits in found.values()))
    for other in ("best score", "best score, as many calls"):
        gains = [hits["scrutiny, margin 0.2"] - hits[other] for hits in found.values()]
        print(f"{'gain on ' + other:34}" + "".join(f"{paired(gain):>21}" for gain in gains))


@dataclass(frozen=True, eq=False)
class Judge:
    """Shares of three kinds of answers (right first), their chances to pass, and a comparison's to be right."""

    shares: tuple[float, float, float]
    rates: tuple[float, float, float]
    skill: tuple[float, float]
    verifications: int

    def ask(self, rng: np.random.Generator, n: int = 9, comparisons: int = 9) -> dict[str, bool]:
        """Which ways of choosing answer one question right; all see the same answers, judged by the same luck."""
        few, kinds = self.verifications, rng.choice(3, size=n, p=self.shares).tolist()
        most = few + (n - 1) * comparisons // 2  # as many calls as if every pair met
        passed = rng.random((n, most)) < np.take(self.rates, kinds)[:, None]
        luck = rng.random((n, n, comparisons))

        def verify(answer: int, repetition: int = 0) -> bool:
            return bool(passed[answer, repetition])

        def compare(first: int, second: int, repetition: int) -> bool:
            kind = kinds[first], kinds[second]
            differ = (kind[0] == 0) != (kind[1] == 0)
            true = luck[first, second, repetition] < (self.skill[max(kind) - 1] if differ else 0.5)
            return bool(true == (kind[0] == 0 or not differ))

        near, wide = (
            SampleScrutinize(verifications=few, margin=margin, comparisons=comparisons).choose(
                range(n), verify, compare
            )
            for margin in (0.05, 0.2)
        )
        met = len(wide.finalists) * (len(wide.finalists) - 1) // 2
        more = few + -(-met * comparisons // n)  # what comparing costs, spent on verifying instead
        chosen = {
            "one draw": kinds[0],
            "majority": majority_vote(kinds).answer,
            "one verification, then a vote": sample_and_verify(
                range(n), verify, normalize=kinds.__getitem__
            ).vote.answer,
            "vote weighted by score": weighted_vote(kinds, wide.scores + 1e-9).answer,
            "best score": kinds[wide.scores.argmax()],
            "best score, as many calls": kinds[passed[:, :more].mean(axis=1).argmax()],
            "scrutiny, margin 0.05": kinds[near.index],
            "scrutiny, margin 0.2": kinds[wide.index],
            "(one of the nine is right)": min(kinds),
        }
        return {way: kind == 0 for way, kind in chosen.items()}


def paired(gains: np.ndarray) -> str:
    """Mean of what one way gains on another, question by question, with its standard error."""
    return f"{gains.mean():+.3f} +- {gains.std(ddof=1) / np.sqrt(len(gains)):.3f}"


def forecasts() -> None:
    """Coverage at 1,000 answers, forecast from 100 answers to each of 500 problems: mean of ten sets"""
    print(f"{'difficulty':24}  at 100   at 1,000   power law: bias, error   beta-binomial: bias, error")
    for name, impossible, shape in (
        ("beta(0.1, 2)", 0.0, (0.1, 2.0)),
        ("beta(0.3, 10)", 0.0, (0.3, 10.0)),
        ("beta(0.6, 6)", 0.0, (0.6, 6.0)),
        ("beta(1, 20)", 0.0, (1.0, 20.0)),
        ("half beta(2, 8), half 0", 0.5, (2.0, 8.0)),
    ):
        at = [(1 - impossible) * float(BetaBinomial(*shape).coverage(k)) for k in (100, 1000)]
        off = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            q = np.where(rng.random(500) < impossible, 0.0, rng.beta(*shape, size=500))
            correct = rng.binomial(100, q)
            curve = coverage_curve(correct, 100)
            fits = fit_power_law(curve.k, curve.coverage), fit_beta_binomial(correct, 100)
            off.append([float(fit.coverage(1000)) - at[1] for fit in fits])
        bias, error = np.mean(off, axis=0), np.mean(np.abs(off), axis=0)
        print(f"{name:24}   {at[0]:.3f}      {at[1]:.3f}", end="")
        print(f"            {bias[0]:+.3f}, {error[0]:.3f}                {bias[1]:+.3f}, {error[1]:.3f}")


@dataclass(frozen=True, eq=False)
class Drawn:
    """One drawn answer: its text, its log-probability, and the model's last states while it read it (steps, d)."""

    text: str
    log_probability: float
    states: np.ndarray


class Responder:
    """Draws answers at temperature 1 over the whole vocabulary, from uniforms of (seed, prompt, answer, step)."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def draw(self, prompt: str, number: int, n: int, steps: int, stop: str = "\n") -> list[Drawn]:
        """n answers to one prompt, up to the stop text or `steps` tokens."""
        torch = self.torch
        u = np.array([Rng(0).child(f"prompt {number}").rows(i * steps, (i + 1) * steps, "token") for i in range(n)])
        with torch.inference_mode():
            out = self.model(**self.tokenizer(prompt, return_tensors="pt"), use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            cache.batch_repeat_interleave(n)
            logits = out.logits[:, -1].repeat(n, 1)
            tokens, log_p, states = [], [], []
            for step in range(steps):
                law = torch.log_softmax(logits, dim=-1)
                climb = law.exp().cumsum(-1, dtype=torch.float64)
                at = torch.from_numpy(u[:, step : step + 1]) * climb[:, -1:]
                token = torch.searchsorted(climb, at, right=True).clamp(max=law.shape[1] - 1)
                tokens.append(token[:, 0].numpy())
                log_p.append(law.gather(1, token)[:, 0].numpy())
                out = self.model(token, past_key_values=cache, use_cache=True, output_hidden_states=True)
                logits, cache = out.logits[:, -1], out.past_key_values
                states.append(out.hidden_states[-1][:, -1].numpy())
        return [self._cut(*each, stop) for each in zip(np.stack(tokens, 1), np.stack(log_p, 1), np.stack(states, 1))]

    def _cut(self, tokens: np.ndarray, log_p: np.ndarray, states: np.ndarray, stop: str) -> Drawn:
        for length in range(1, len(tokens) + 1):
            text = self.tokenizer.decode(tokens[:length], skip_special_tokens=True)
            if stop in text:
                break
        return Drawn(text.split(stop)[0], float(log_p[:length].sum()), states[:length])


def real_model(folder: str) -> None:
    """Sums and products with a checkable answer; then texts with a countable property."""
    began = time.perf_counter()
    responder = Responder(folder)
    arithmetic(responder)
    vowels(responder)
    print(f"\n(model: {time.perf_counter() - began:.0f} s)")


SHOTS = "12 + 7 = 19\n6 * 4 = 24\n35 + 48 = 83\n9 * 7 = 63\n"


def arithmetic(responder: Responder, problems: int = 36, n: int = 24) -> None:
    """pass@k, coverage, votes and a probe on sums and products."""
    rng = np.random.default_rng(0)
    asked, drawn = [], []
    for number in range(problems):
        low, high = [(2, 10), (10, 30), (10, 90)][number % 3]
        a, b = rng.integers(low, high, size=2).tolist()
        times = number % 2 == 0 and number % 3 < 2
        asked.append((f"{SHOTS}{a} {'*' if times else '+'} {b} =", a * b if times else a + b))
        drawn.append(responder.draw(asked[-1][0], number, n, steps=5))
    rewards = np.array([[float(value(each.text) == truth) for each in row] for row, (_, truth) in zip(drawn, asked)])
    correct = rewards.sum(axis=1).astype(int)
    print(f"\n## {problems} sums and products, {n} answers each, temperature 1\n")
    rates = {
        **{f"pass@{k}": pass_at_k(correct, n, k) for k in (1, 4, 16, n)},
        "pass^4": pass_all_k(correct, n, 4),
        "G-Pass@16, tau 0.5": g_pass_at_k(correct, n, 16, 0.5),
        "mG-Pass@16": mean_g_pass_at_k(correct, n, 16),
    }
    for name, rate in rates.items():
        print(f"{name:32} {rate.mean:.3f} +- {rate.standard_error:.3f}")
    print()
    # The fair base is pass@1, the mean over all draws, and the fair error that of the difference, problem by problem.
    hits = {
        name: np.array([found == truth for found, (_, truth) in zip(chosen, asked)], float)
        for name, chosen in choices(drawn).items()
    }
    for name, hit in hits.items():
        print(f"{name:32} {hit.mean():.3f}    (less pass@1: {paired(hit - correct / n)})")
    gain = hits[f"majority of {n}"] - hits[f"likeliest of {n}"]
    print(f"majority of {n} less likeliest of {n}: {paired(gain)}, {(gain != 0).sum()} problems answered otherwise")
    forecast_from_few(rewards)
    kl_of_likeliest(drawn)
    states = np.array([[each.states[-1] for each in row] for row in drawn])
    probe_table("right answers", states, rewards, k=8)


def choices(drawn: list[list[Drawn]]) -> dict[str, list[Any]]:
    """Each way's answer to every problem."""
    texts = [[each.text for each in row] for row in drawn]
    log_p = [np.array([each.log_probability for each in row]) for row in drawn]
    n = len(drawn[0])
    return {
        f"majority of {n}": [majority_vote(row, normalize=value).answer for row in texts],
        "majority of 8": [majority_vote(row[:8], normalize=value).answer for row in texts],
        "vote weighted by probability": [
            weighted_vote(row, np.exp(each), normalize=value).answer for row, each in zip(texts, log_p)
        ],
        f"likeliest of {n}": [value(best_of_n(row, each).answer) for row, each in zip(texts, log_p)],
    }


def forecast_from_few(rewards: np.ndarray) -> None:
    """Forecast coverage at all answers from the first eight, and compare with what was drawn."""
    n = rewards.shape[1]
    few = rewards[:, :8].sum(axis=1).astype(int)
    print(
        f"\ncoverage at {n}: drawn {pass_at_k(rewards.sum(axis=1).astype(int), n, n).mean:.3f}; forecast from 8 answers:"
    )
    for model in ("beta-binomial", "power-law"):
        found = forecast_coverage(few, 8, n, model=model)
        print(f"{model:32} {found.coverage:.3f} ({found.low:.3f} to {found.high:.3f})")


def kl_of_likeliest(drawn: list[list[Drawn]]) -> None:
    """How far best-of-n by log-probability is from the model, by the estimate and by the bound."""
    print("\nKL of the likeliest of n, nats:  n   estimate   bound")
    for n in (4, len(drawn[0])):
        winners = [max(each.log_probability for each in row[:n]) for row in drawn]
        found = best_of_n_kl_estimate(winners, n)
        print(f"{n:34d}      {found.value:.3f}   {best_of_n_kl_bound(n):.3f}")


def vowels(responder: Responder, prompts: int = 36, k: int = 8) -> None:
    """A probe for texts whose words begin with a vowel."""
    subjects = ["The animal", "My uncle", "An old house", "The engine", "Every evening she", "In the north it"]
    verbs = ["was", "is often", "had", "looked", "needed", "used", "could be", "made", "saw", "left"]
    asked = [f"{subject} {verb}" for subject in subjects for verb in verbs][:prompts]
    drawn = [responder.draw(text, 1000 + number, k, steps=12) for number, text in enumerate(asked)]
    rewards = np.array([[vowel_share(each.text) for each in row] for row in drawn])
    states = np.array([[each.states.mean(axis=0) for each in row] for row in drawn])
    probe_table("share of words that begin with a vowel", states, rewards, k)


def probe_table(name: str, states: np.ndarray, rewards: np.ndarray, k: int) -> None:
    """Train on every other half dozen of prompts (all kinds of them), choose among k draws of the rest."""
    test = np.arange(len(states)) // 6 % 2 == 1
    train = ~test
    x, r = states[train].reshape(-1, states.shape[-1]), rewards[train].ravel()
    held_out, earned = states[test, :k], rewards[test, :k]
    questions = np.repeat(np.arange(len(states[train])), states.shape[1])
    print(f"\nQ-probe, {name}: mean reward of {len(earned)} held-out prompts")
    print(
        f"{f'random of {k}':32} {earned.mean():.3f}    (best of {k} by the true reward {earned.max(axis=1).mean():.3f})"
    )
    rows = np.arange(len(earned))
    for objective in ("regression", "policy"):
        probe = QProbe(objective=objective, penalty=100.0).fit(x, r, questions if objective == "policy" else None)
        picked = probe.choose(held_out, temperature=0, seed=0, question=rows)
        gain = earned[rows, picked] - earned.mean(axis=1)
        error, best = gain.std(ddof=1) / np.sqrt(len(gain)), earned[rows, picked].mean()
        print(f"{objective + ' probe, best of ' + str(k):32} {best:.3f}    (gain {gain.mean():+.3f} +- {error:.3f})")


def value(text: str) -> int | None:
    """The number that an answer is, or None."""
    found = re.fullmatch(r"\s*(\d+)\s*", text)
    return int(found[1]) if found else None


def vowel_share(text: str) -> float:
    """Share of words that begin with a vowel; 0 without words."""
    words = re.findall(r"[A-Za-z]+", text)
    return float(np.mean([word[0].lower() in "aeiou" for word in words])) if words else 0.0


if __name__ == "__main__":
    main()
