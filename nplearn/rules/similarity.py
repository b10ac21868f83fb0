"""Which samples of a batch are alike, and how far that is from what their targets say: the loss of `sim`.

    v_i   what is compared of sample i: its features, or of a map with more than 3 channels and more than one row (a
          condition copied from local-loss) each channel's standard deviation over the positions
    x_i   (v_i - mean(v_i)) / n_i        n_i = 1e-8 + |v_i - mean(v_i)|        S_ij = <x_i, x_j>
    loss  mean over i, j of (S_ij - T_ij)^2, T the same of the targets; of sample i: the mean over j

    dx = 4 (S - T) x / N^2      dv_i = (dx_i - <dx_i, x_i> u_i) / n_i        u_i the unit vector along x_i
    dmap = dv (map - mean) / (v (positions - 1))                             dv_i needs no centring: x_i and u_i have it

A sample whose spread |v - mean(v)| is at most DEAD gets no gradient: its own goes as 1 / spread, and of
float32 numbers near 1 so small a spread may be rounding alone. Without any spread it is like no other sample, S = 0.
Source: Nokland and Eidnes 2019, arXiv 1901.06656, and its code (local-loss), which also clips S to [-1, 1]: rounding
alone is beyond. The paper writes a Frobenius norm, the code this mean.
"""
from nplearn.backend import array_module
from nplearn.columns import columns, rows

GUARD, DEAD = 1e-8, 1e-6


def similarity(z):
    """S (N, N), the adjusted cosine between every two samples of the activation z."""
    x = normalised(compared(z)[0])[0]
    return x @ x.T


def mismatch(z, target):
    """(values (T, nb), dz): the loss of each sample, and the gradient of their mean."""
    v, back = compared(z)
    x, length = normalised(v)
    E = x @ x.T - similarity(target)
    dx = 4 / len(x) ** 2 * (E @ x)
    n, live = GUARD + length, length > DEAD
    u = x * n / array_module(x).where(live, length, 1)
    dv = (dx - (dx * x).sum(axis=1, keepdims=True) * u) / n * live
    return columns((E * E).mean(axis=1), z.shape[-1]), back(dv)


def normalised(v):
    """(x, |v - mean(v)|) of rows v (N, k)."""
    centred = v - v.mean(axis=1, keepdims=True)
    length = (centred * centred).sum(axis=1, keepdims=True) ** 0.5
    return centred / (GUARD + length), length


def compared(z):
    """(v (N, k), back): what is compared of each sample of z, and the function that takes dv to dz."""
    x, nb = rows(z), z.shape[-1]
    if x.ndim == 2 or x.shape[3] <= 3 or x.shape[1] == 1:
        return x.reshape(len(x), -1), lambda dv: columns(dv.reshape(x.shape), nb)
    between = x.shape[1] * x.shape[2] - 1
    centred = x - x.mean(axis=(1, 2), keepdims=True)
    s = ((centred * centred).sum(axis=(1, 2), keepdims=True) / between) ** 0.5
    spread = array_module(s).where(s > 0, s, 1)         # of a constant map `centred` is 0: avoids 0 / 0
    return s.reshape(len(x), -1), lambda dv: columns(centred * (dv.reshape(s.shape) / (spread * between)), nb)
