"""What equilibrium propagation is compared with: the adjoint at the fixed point, its potential, the dynamics of 2017.

All over the stages of a chain of dense layers (the potential: of any chain), with s = [x, s_1, .., s_L].
"""
import numpy as np

from nplearn.columns import rows


def back(chain, q):
    """lam_l = adjoint(q_{l+1}, W_{l+1}) + apply(q_{l-1}, W_l) for l >= 1; q_0 is None."""
    lam = [None]
    for i, stage in enumerate(chain, start=1):
        layer, total = stage.layer, 0
        if i < len(chain):
            above = chain[i].layer
            total = total + above.adjoint(q[i + 1], above.weight.value, q[i].shape)
        if i > 1:
            total = total + layer.apply(q[i - 1], layer.weight.value)
        lam.append(total)
    return lam


def backward_steps(chain, s, error, steps):
    """q^(0), q^(1), ..: the deltas of backprop through time from a fixed point whose output has that error."""
    slopes = [None, *(stage.activation.slope(h) for stage, h in zip(chain, s[1:], strict=True))]
    q = [None, *(0 * h for h in s[1:-1]), slopes[-1] * error]
    for _ in range(steps):
        yield q
        q = [None, *(f * lam for f, lam in zip(slopes[1:], back(chain, q)[1:], strict=True))]


def adjoint_gradients(chain, s, error, steps, deltas=False):
    """{path: gradient} of the settled loss: the sum of q over all steps solves the adjoint equation."""
    q = [None, *(0 * h for h in s[1:])]
    for step in backward_steps(chain, s, error, steps):
        q = [None, *(a + b for a, b in zip(q[1:], step[1:], strict=True))]
    if deltas:
        return q[1:]
    found = {}
    for i, stage in enumerate(chain, start=1):
        layer = stage.layer
        found[layer.weight.path] = layer.outer(s[i - 1], q[i]) + (layer.outer(q[i - 1], s[i]) if i > 1 else 0)
        found[layer.bias.path] = layer.over_bias(q[i])
    return found


def step_by_step(layers, sigma, x, target, beta, free_steps, nudged_steps):
    """{path: gradient} as it is written, for dense layers: from zero, T1 sweeps, T2 nudged by beta, free less nudged.

    With several betas their mean: of (b, -b) it is the symmetric contrast.
    """
    N, L = x.shape[0] * x.shape[-1], len(layers)

    def settle(s, beta, steps):
        for _ in range(steps):
            new = [x]
            for i, layer in enumerate(layers, start=1):
                v = layer.weight.value @ s[i - 1] + layer.bias.value
                v = v + (layers[i].weight.value.T @ s[i + 1] if i < L else -beta * (s[i] - target))
                new.append(sigma(v))
            s = new
        return s

    zero = [x, *(np.zeros((len(x), layer.n_out, x.shape[-1])) for layer in layers)]
    free, found = settle(zero, 0, free_steps), {}
    for b in beta:
        nudged = settle(free, b, nudged_steps)
        for i, layer in enumerate(layers):
            W, share = layer.weight.path, 1 / (b * N * len(beta))
            dW = sum(free[i + 1][t] @ free[i][t].T - nudged[i + 1][t] @ nudged[i][t].T for t in range(len(x)))
            db = (free[i + 1] - nudged[i + 1]).sum(axis=(0, 2))[:, None]
            found[W] = found.get(W, 0) + share * dW
            found[layer.bias.path] = found.get(layer.bias.path, 0) + share * db
    return found


def potential(chain, s, tape):
    """Phi = sum of <s_l, pool(W_l s_{l-1} + b_l)>."""
    again = tape.again()
    drives = [stage.linear.forward(below, again) for stage, below in zip(chain, s[:-1], strict=True)]
    return sum((v * h).sum() for v, h in zip(drives, s[1:], strict=True))


def clipped_euler(layers, x, target, beta, start, eps, steps):
    """States in [0, 1] that go down E = 1/2 |s|^2 - sum <s_l, W_l s_{l-1}> - b s + beta/2 |s_L - t|^2, as in 2017."""
    s = [x, *(start + 0 * layer.apply(x if i == 0 else np.zeros((len(x), *layer.in_shape, x.shape[-1])),
                                      layer.weight.value) for i, layer in enumerate(layers))]
    assert rows(s[-1]).shape == rows(target).shape
    for _ in range(steps):
        new = [x]
        for i, layer in enumerate(layers, start=1):
            slope = -s[i] + layer.apply(s[i - 1], layer.weight.value) + layer.bias.value
            if i < len(layers):
                slope = slope + layers[i].adjoint(s[i + 1], layers[i].weight.value, s[i].shape)
            else:
                slope = slope - beta * (s[i] - target)
            new.append(np.clip(s[i] + eps * slope, 0, 1))
        s = new
    return s
