"""SGD and Adam over a block of the arena, in one launch each.

A step of the plain bodies, `update` in optim/sgd.py and optim/adam.py, is five to fifteen launches that read and write
the arena as often; these read and write each array once. Settings are arguments of the launch, so schedules act. mask
is null where everything decays, else 1 where it does.

W, G are a block of the arena's values and gradients; `block` is its slice, for the optimiser's own arrays (slots,
mask); `now` holds the settings that schedules give at this step.
"""
from math import sqrt

from nplearn.kernels.gpu.launch import contiguous, flat, run

SOURCE = """
__device__ void decayed(T& w, T& g, const T* mask, long long at, T decay, T kept, bool decoupled) {
    if (mask && mask[at] == 0) return;
    if (decoupled) w *= kept;
    else g += decay * w;
}

extern "C" __global__ void sgd(T* W, const T* G, T* v, const T* mask, long long n, T lr, T mu, T decay, T kept,
                               long long nesterov, long long decoupled) {
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < n;
         at += (long long)gridDim.x * blockDim.x) {
        T w = W[at], g = G[at];
        decayed(w, g, mask, at, decay, kept, decoupled);
        if (v) {
            T moving = mu * v[at] + g;
            v[at] = moving;
            g = nesterov ? g + mu * moving : moving;
        }
        W[at] = w - lr * g;
    }
}

extern "C" __global__ void adam(T* W, const T* G, T* mean, T* square, const T* mask, long long n, T rate, T decay,
                                T kept, T one_less_beta1, T beta2, T one_less_beta2, T root, T eps,
                                long long decoupled) {
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < n;
         at += (long long)gridDim.x * blockDim.x) {
        T w = W[at], g = G[at];
        decayed(w, g, mask, at, decay, kept, decoupled);
        T m = mean[at] + one_less_beta1 * (g - mean[at]), s = beta2 * square[at] + one_less_beta2 * (g * g);
        mean[at] = m;
        square[at] = s;
        W[at] = w - rate * (m / (sqrt(s) / root + eps));
    }
}
"""


def sgd(optimiser, W, G, block, now):
    """The update of optim/sgd.py."""
    lr, mu, decay = now["lr"], now["momentum"], now["decay"]
    run(SOURCE, "sgd", W, *flat(W.size), W, *contiguous(G), place(optimiser.slots.get("momentum"), block),
        place(optimiser.mask, block), W.size, float(lr), float(mu), float(decay), float(1 - lr * decay),
        int(optimiser.nesterov), int(optimiser.decoupled))


def adam(optimiser, W, G, block, now, decoupled):
    """The update of optim/adam.py, Adam's or AdamW's."""
    n, lr, decay = optimiser.moves + 1, now["lr"], now["decay"]
    beta1, beta2 = optimiser.beta1, optimiser.beta2
    mean, square = optimiser.slots["mean"][block], optimiser.slots["square"][block]
    run(SOURCE, "adam", W, *flat(W.size), W, *contiguous(G), mean, square, place(optimiser.mask, block), W.size,
        float(lr / (1 - beta1 ** n)), float(decay), float(1 - lr * decay),
        float(1 - beta1), float(beta2), float(1 - beta2), float(sqrt(1 - beta2 ** n)), float(optimiser.eps),
        int(decoupled))


def place(array, block):
    return None if array is None else array[block]
