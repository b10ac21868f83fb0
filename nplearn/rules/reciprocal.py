"""Reciprocal feedback (RF), learned: recirculation (see recirculation.py) makes V the inverse of W by activity.

    V <- V + eta (outer(E, Y) / (R uses) - lam V)       Y = apply(X, W),  E = X - adjoint(Y, V),  X the drive
    e_l = s_l adjoint(d_l, V_l)                         see pseudoinverse.py for rescale, most and gate

From V = 0, when nothing comes down yet, the first step under white drive is V = eta W: with "match" RF starts as
backprop, W copied by activity alone, and turns from there to the inverse; where the rows of W are orthogonal that is W
still. On convolutions and locally connected layers V becomes the best inverse of their own kind, a whitened transpose.

steps  recirculations after every update ("rf")
sleep  recirculations before the first update and after every `wake`-th, off-line ("rf-sleep", with steps=0)
eta    None: 1 / (s^2 + lam), half the bound of stability, s the largest singular value of W as power iteration finds it
       in the responses Y: it grows with W and needs no transport, but no synapse could know it. Or a number
lam    of the Tikhonov inverse, a share of mean s^2; with relative=False lam itself
drive  "basis", "white" or "activity"; rows: R, None for one per input as long as that makes a million numbers at most
start  of V: "zero", or "random" by W's law; where W has more outputs than inputs and lam = 0, it keeps a part for ever.
       W itself starts as its layers say: for orthogonal rows make them by Dense(n, init=ORTHOGONAL)
Kept: V and |W|^2. V's optimiser is plain SGD of rate 1, as eta is in the gradient; `optimiser` gives another.
Source: ICLR 2025 submission on pseudoinverse feedback; Hinton and McClelland 1988, NIPS.
"""
from nplearn.backend import stream
from nplearn.errors import SettingError
from nplearn.optim import SGD
from nplearn.rules.checks import choice, number, whole
from nplearn.rules.pseudoinverse import PseudoinverseRule
from nplearn.rules.recirculation import Drive, recirculate


class Reciprocal(PseudoinverseRule):
    idea = "recirculated activity teaches feedback the inverse of W"
    keeps, learns_when = "V, learned", "W every step, V by recirculation after it or asleep"

    def __init__(self, steps=1, sleep=0, wake=10, eta=None, lam=0.1, relative=True, drive="basis", rows=None,
                 start="zero", rescale="match", most=1.0, gate="multiply", optimiser=None):
        super().__init__(lam, relative, rescale, most, gate, optimiser or (lambda arena: SGD(arena, 1.0)))
        self.drive = choice(self, "drive", drive, ("basis", "white", "activity"))
        self.start = choice(self, "start", start, ("zero", "random"))
        self.steps, self.sleep = whole(self, "steps", steps, 0), whole(self, "sleep", sleep, 0)
        self.wake = whole(self, "wake", wake)
        self.rows = rows if rows is None else whole(self, "rows", rows)
        self.eta = eta if eta is None else number(self, "eta", eta, least=0)
        if self.start == "zero" and not (self.steps or self.sleep):
            raise SettingError(type(self).__name__, "steps 0 and sleep 0, from zero", "a V that may move, or is drawn",
                               "give steps, sleep or start='random'")
        self.drawn = start == "random"

    def prepare(self, net):
        super().prepare(net)
        self.drives = {layer: Drive(self.drive, self.rows, layer, self) for layer in self.layers}
        asleep = self.sleep > 0 and any(drive.draws for drive in self.drives.values())
        self.drawn = self.start == "random" or asleep   # awake the draws are those of the pass

    def feedback(self, layer, rng):
        V = layer.draw(rng)
        if self.start == "zero":
            V[...] = 0
        return self.inverse(layer, V)

    def recirculate(self, rng, tape):
        """One step of every layer's V; the layers do not meet."""
        for layer in self.layers:
            given, drive = layer.feedback, self.drives[layer]
            step, squared = recirculate(layer, given.matrix.value, drive(rng(layer), tape), drive.start, given.uses,
                                        self.eta, self.lam, self.relative)
            given.matrix.grad[...] = -step
            given.power.value[...] = squared
        super().learn(self.net, tape)

    def driving(self, tape):
        """The pass whose activity drives, with the weights as they are now; other drives need none."""
        if self.drive == "activity":
            tape = tape.again()
            tape.run(self.net)
        return tape

    def learn(self, net, tape):
        now = self.driving(tape) if self.steps else tape
        for k in range(self.steps):
            self.recirculate(lambda layer, k=k: tape.rng(layer, "drive", k), now)

    def phase(self, net, batches):
        if self.sleep and batches.step % self.wake == 0:
            now = self.driving(next(batches)) if self.drive == "activity" else None
            for k in range(self.sleep):
                self.recirculate(lambda layer, k=k: stream(self.seed, "sleep", batches.step, layer.path, k), now)
