"""A rule chosen per layer: each weighted layer goes to the first pattern that fits its path.

    Mixed({"fc3": Backprop(), "conv*": UniformSignConcordant(), "*": FeedbackAlignment()})

Patterns are those of a shell (`*`, `?`, `[...]`). Every layer must fit one, and every pattern a layer. Rules with a
walk of their own cannot share a net, and are refused.
"""
from fnmatch import fnmatchcase

from nplearn.errors import BuildError
from nplearn.layers import holders, weighted
from nplearn.rules.base import SEVERAL, Rule


class Mixed(Rule):
    idea = "a rule chosen per layer, by the pattern that fits its path"
    paper, keeps, learns_when = "-", "what its rules keep", "as its rules do"

    def __init__(self, rules):
        super().__init__()
        if not isinstance(rules, dict) or not all(isinstance(rule, Rule) for rule in rules.values()):
            raise BuildError("Mixed", f"{rules!r}", "a dict {pattern: Rule}", 'write Mixed({"*": Backprop()})')
        for pattern, rule in rules.items():
            if not rule.walks_plainly:
                raise BuildError(f"Mixed {pattern!r}", f"{type(rule).__name__}, which has a walk of its own",
                                 "rules that share the plain walk down", "use it alone")
        if len({id(rule) for rule in rules.values()}) < len(rules):
            raise BuildError("Mixed", "one rule object under two patterns", "an object for each", "make a second one")
        self.rules = rules
        self.learned = any(rule.learned for rule in rules.values())
        self.claims = frozenset.intersection(*(rule.claims for rule in rules.values())) if rules else self.claims

    def attach(self, net, seed=0, layers=None):
        candidates = weighted(net) if layers is None else list(layers)
        for holder in holders(net) if layers is None else ():
            holder.feedback = holder.exact
        served = {pattern: [] for pattern in self.rules}
        for layer in candidates:
            fit = next((pattern for pattern in self.rules if fnmatchcase(layer.path, pattern)), None)
            if fit is None:
                raise BuildError(layer.path, "no pattern of Mixed that fits it", f"one of {list(self.rules)} to fit",
                                 "add '*': Backprop() as the last pattern")
            served[fit].append(layer)
        for pattern, mine in served.items():
            if not mine:
                raise BuildError(f"Mixed {pattern!r}", "no layer left that fits",
                                 f"one of {[c.path for c in candidates]}",
                                 "change the pattern or the order of patterns")
            rule = self.rules[pattern]
            rule.attach(net, seed, [layer for layer in mine if layer.sends or rule.lowest])
        net.served_by = self if layers is None else SEVERAL
        self.net, self.seed, self.layers = net, seed, [layer for rule in self.rules.values() for layer in rule.layers]
        return self

    def follow(self, optimiser):
        for rule in self.rules.values():
            rule.follow(optimiser)

    def learn(self, net, tape):
        for rule in self.rules.values():
            rule.learn(net, tape)

    def phase(self, net, batches):
        for rule in self.rules.values():
            rule.phase(net, batches)

    def params(self):
        return {path: param for rule in self.rules.values() for path, param in rule.params().items()}

    def fixed(self):
        return {path: array for rule in self.rules.values() for path, array in rule.fixed().items()}

    def states(self):
        return [arena for rule in self.rules.values() for arena in rule.states()]

    def optimisers(self):
        return {f"{pattern}.{name}": optimiser for pattern, rule in self.rules.items()
                for name, optimiser in rule.optimisers().items()}

    def memory(self):
        return sum(rule.memory() for rule in self.rules.values())

    def settings(self):
        return {pattern: [type(rule).__name__, rule.settings()] for pattern, rule in self.rules.items()}
