"""What the target and the drafter have read after each round."""

import numpy as np
import pytest

from kofn.decode.rules.topk import TopK
from kofn.decode.speculation.drafter import ModelDrafter
from kofn.decode.speculation.multidraft import MultiDraft
from kofn.decode.speculation.policy import Threshold
from kofn.decode.speculation.speculative import Speculative

LAW = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
SIZE = len(LAW)


class Remembering:
    """A law that depends on every token read and on its place: one token too many or too few, and it is another."""

    vocabulary, end = SIZE, frozenset()

    def law(self, context):
        places = np.arange(1, len(context) + 1)
        return np.roll(LAW, int((places * (np.array(context) + 1)).sum()) % SIZE)

    def start(self, prompts):
        return self._after(prompts), [list(prompt) for prompt in prompts]

    def next_logits(self, tokens, state):
        state = [[*old, int(new)] for old, new in zip(state, tokens, strict=True)]
        return self._after(state), state

    def all_logits(self, tokens, state):
        steps = []
        for column in np.asarray(tokens).T:
            logits, state = self.next_logits(column, state)
            steps.append(logits)
        return np.stack(steps, axis=1), state

    def select(self, state, rows):
        return [list(state[row]) for row in rows]

    def rewind(self, state, count):
        return [each[: len(each) - count] for each in state]

    def _after(self, contexts):
        return np.log(np.array([self.law(each) for each in contexts])).astype(np.float32)


@pytest.mark.parametrize(
    "method",
    [
        lambda drafter: Speculative(drafter, length=1),
        lambda drafter: Speculative(drafter, length=4),
        lambda drafter: Speculative(drafter, length=Threshold(0.7, limit=6)),
        lambda drafter: MultiDraft(drafter, drafts=2, length=3),
        lambda drafter: MultiDraft(drafter, drafts=4, length=1),
    ],
)
def test_after_every_refusal_both_stand_behind_the_same_tokens(method):
    # the drafter keeps the target's best three tokens: where both know the same context, p / q is 0.8 for each of them
    model = Remembering()
    answer = method(ModelDrafter(Remembering(), rule=TopK(3))).generate(model, [3, 1], 4, length=40, seed=2)
    assert answer.details["chances"] == pytest.approx(np.full(answer.details["tested"], 0.8), abs=1e-5)
    assert 0 < answer.details["accepted"] < answer.details["tested"]
    for tokens, logprob in zip(answer.tokens, answer.logprobs, strict=True):
        context, expected = [3, 1], 0.0
        for token in tokens.tolist():
            expected += np.log(model.law(context)[token])
            context.append(token)
        assert logprob == pytest.approx(expected, rel=1e-5)
