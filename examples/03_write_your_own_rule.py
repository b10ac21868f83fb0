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


class Peeking(RandomSigns):
    """The same rule with a fault: the signs are W's own, copied at the start ... and again at every `learn`."""

    def learn(self, net, tape):
        for layer in self.layers:
            layer.feedback.matrix.value[...] = layer.std() * np.sign(layer.weight.value)


print(check_rule(RandomSigns))
try:
    check_rule(Peeking)
except AssertionError as failure:
    print(f"\nand the faulty copy is found out:\n{failure}")
else:
    raise SystemExit("the faulty copy passed: the contract is broken")
print("\nA correct run prints the checks that RandomSigns passed, and one clause that its faulty copy broke.")
