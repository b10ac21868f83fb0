"""Predictive coding as it is written: every node moves at every step, nothing is left out because it is known.

    relax        strict dynamics: all nodes, predictions and errors after T moves
    literal_zil  the same with each layer's gradient taken at its time, k moves for the layer k below the top
    preactive    Z-IL with nodes that hold pre-activations (convention B), over dense layers as matrices
    relaxation   strict dynamics of a linear net as one matrix over all hidden nodes
"""
import numpy as np

from nplearn.layers import activities


def errors(chain, v, y, loss, labels, beta, tape):
    """(-eps of every layer, the pass of all stages over v)."""
    sweep = tape.again()
    mu = [stage.forward(x, sweep) for stage, x in zip(chain, v, strict=True)]
    top = beta * tape.count * loss(mu[-1], labels)[1] if y is None else mu[-1] - y
    return [*(m - x for m, x in zip(mu, v[1:], strict=False)), top], sweep


def relax(chain, tape, steps, gamma, beta=1.0, y=None, at=lambda step, e, sweep: None):
    """(v, e, history of the energy's eps part); `y` clamps the output there, `at` looks at every step."""
    v, energy = activities(chain, tape)[:-1], []
    for step in range(steps + 1):
        e, sweep = errors(chain, v, y, tape.loss, tape.labels, beta, tape)
        energy.append(sum((d * d).sum() for d in e[:-1]) / 2)
        at(step, e, sweep)
        if step < steps:
            down = sweep.walk(collects=False)
            back = [stage.backward(d, down) for stage, d in zip(chain, e, strict=True)]
            v = [v[0], *(x + gamma * (d - b) for x, d, b in zip(v[1:], e, back[1:], strict=False))]
    return v, e, energy


def literal_zil(net, chain, tape, gamma=1.0):
    """{path: gradient}: layer L - k read after k moves."""
    found = {}

    def read(step, e, sweep):
        i = len(chain) - 1 - step
        chain[i].backward(e[i] / tape.count, sweep.walk())
        found.update({p.path: p.grad.copy() for layer in chain[i].layers for p in layer.params().values()})
    relax(chain, tape, len(chain) - 1, gamma, at=read)
    return {p.path: found[p.path] for p in net.arena.params}


def preactive(weights, f, slope, x, error):
    """Gradients of W_1 .. W_L: nodes p_l with mu_l = W_l f(p_{l-1}), f(p_0) = x; error(p_L) is that of the top."""
    L, a, p = len(weights), x, [None]
    for W in weights:
        p.append(W @ a)
        a = f(p[-1])
    below = [x] + [None] * (L - 1)
    found = [None] * L
    for step in range(L):
        below[1:] = [f(q) for q in p[1:L]]
        e = [W @ h for W, h in zip(weights, below, strict=True)]
        e = [m - q for m, q in zip(e, p[1:], strict=True)]
        e[-1] = error(weights[-1] @ below[-1])
        found[L - 1 - step] = e[L - 1 - step] @ below[L - 1 - step].T
        down = [W.T @ d for W, d in zip(weights[1:], e[1:], strict=True)]
        p[1:L] = [q + d - slope(q) * b for q, d, b in zip(p[1:L], e, down, strict=False)]
    return found


def relaxation(weights, feedback):
    """A of  v <- v + gamma (c - A v)  for v = [v_1; ..; v_{L-1}] in a linear net, messages by feedback' in W's place.

    By blocks: I + B_{l+1}' W_{l+1} at (l, l), -W_l at (l, l-1), -B_{l+1}' at (l, l+1); with B = W the Hessian of F.
    """
    L, A = len(weights), [[None] * (len(weights) - 1) for _ in weights[1:]]
    for i in range(L - 1):
        for j in range(L - 1):
            A[i][j] = np.zeros((len(weights[i]), len(weights[j])))
        A[i][i] += np.eye(len(weights[i])) + feedback[i + 1].T @ weights[i + 1]
        if i > 0:
            A[i][i - 1] -= weights[i]
        if i < L - 2:
            A[i][i + 1] -= feedback[i + 1].T
    return np.block(A)


def linear_equilibrium(weights, e):
    """Hard clamp, linear net: delta_l = P_l' S^-1 e with P_l = W_L .. W_{l+1}, S = sum P_l P_l'; and 1/2 e' S^-1 e."""
    P = [np.eye(len(weights[-1]))]
    for W in reversed(weights[1:]):
        P.insert(0, P[0] @ W)
    s = np.linalg.solve(sum(p @ p.T for p in P), e)
    return [p.T @ s for p in P], (e * s).sum() / 2
