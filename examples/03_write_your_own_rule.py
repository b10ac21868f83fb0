"""Write a rule, then let the library's own contract judge it.

    python examples/03_write_your_own_rule.py             (needs the extra `test`: pip install -e '.[test]')

The rule: feedback alignment whose random matrix keeps, of each weight, nothing but one bit drawn at random; B = s times
random signs. It sees neither W's values nor W's signs.
"""
import numpy as np

from nplearn.feedback import Matrix
from nplearn.rules import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.testing import check_rule


class RandomSigns(Rule):
    idea = "a fixed matrix of random signs carries the error down"
    claims = frozenset({NO_TRANSPORT, REDUCES, EXACT_TOP, SAMPLES_APART})

    def feedback(self, layer, rng):
        B = layer.draw(rng)                             # a matrix of the weight's shape, from the layer's own stream
        return Matrix(layer.std() * np.sign(B))


class Peeking(Rule):
    """A faulty copy: at every `learn` the signs become W's own, which the claims deny."""

    claims = RandomSigns.claims

    def feedback(self, layer, rng):
        return Matrix(layer.std() * np.sign(layer.draw(rng)))

    def learn(self, net, tape):
        for layer in self.layers:
            layer.feedback.matrix.value[...] = layer.std() * np.sign(layer.weight.value)


check_rule(RandomSigns)                                 # prints which clauses were checked, how often, on which nets
try:
    check_rule(Peeking)
except AssertionError as failure:
    lines = str(failure).splitlines()
    print(f"\nThe faulty copy is found out, {len(lines)} times:", *lines[:2], "...", sep="\n")
else:
    raise SystemExit("the faulty copy passed: the contract is broken")
print("\nA correct run prints the checks that RandomSigns passed, and the clauses that its faulty copy broke.")
