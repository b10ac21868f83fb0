"""A locally connected layer: patches of all positions in one launch, a product for each row of them, and back.

    copy      patch[t, r, o, (i, j, c), n] = x[t, r s + i - top, c, o s + j - left, n], zero outside the map
    gather    dx[t, h, c, w, n] = sum of g over the patches that see h, w, in the order of taps; no atomics

Patches take kh kw C / s^2 times the input's memory, while a product runs. Plain bodies: kernels/local.py.
"""
from nplearn.backend import array_module
from nplearn.kernels.gpu.gemm import matmul
from nplearn.kernels.gpu.launch import along, contiguous, run
from nplearn.kernels.gpu.window import PARAMETERS, numbers

SOURCE = """
extern "C" __global__ void copy(const T* x, T* patch, WINDOW) {
    long long line = blockIdx.x, c = line % C, rest = line / C, j = rest % kw, i = rest / kw % kh;
    long long o = rest / kw / kh % w, r = rest / kw / kh / w % h, t = rest / kw / kh / w / h;
    long long row = r * sh + i * dh - top, column = o * sw + j * dw - left;
    bool inside = row >= 0 && row < H && column >= 0 && column < W;
    long long from = inside ? (((t * H + row) * C + c) * W + column) * nb : 0;
    for (long long s = (long long)blockIdx.y * blockDim.x + threadIdx.x; s < nb; s += (long long)gridDim.y * blockDim.x)
        patch[line * nb + s] = inside ? x[from + s] : (T)0;
}

extern "C" __global__ void gather(const T* g, T* dx, WINDOW) {
    long long line = blockIdx.x, b = line % W, c = line / W % C, a = line / W / C % H, t = line / W / C / H;
    for (long long s = (long long)blockIdx.y * blockDim.x + threadIdx.x; s < nb;
         s += (long long)gridDim.y * blockDim.x) {
        T sum = 0;
        for (int i = 0; i < kh; ++i) {
            int below = a + top - i * dh, r = below / (int)sh;
            if (below < 0 || below % (int)sh || r >= h) continue;
            for (int j = 0; j < kw; ++j) {
                int behind = b + left - j * dw, o = behind / (int)sw;
                if (behind < 0 || behind % (int)sw || o >= w) continue;
                sum += g[((((t * h + r) * w + o) * kh * kw + i * kw + j) * C + c) * nb + s];
            }
        }
        dx[line * nb + s] = sum;
    }
}
""".replace("WINDOW", PARAMETERS)


def patches(x, window):
    """x (T, H, C, W, nb) -> (T, H', W', kh*kw*C, nb)."""
    x, = contiguous(x)
    (T, H, C, W, nb), (kh, kw) = x.shape, window.kernel
    out = array_module(x).empty((T, *window.out(H, W), kh * kw * C, nb), x.dtype)
    run(SOURCE, "copy", x, *along(out.size // nb, nb), x, out, *numbers(x.shape, window))
    return out


def apply(x, W, window):
    """-> a (T, H', n_out, W', nb)."""
    h, w, n_out, _ = W.shape
    a = array_module(x).empty((len(x), h, n_out, w, x.shape[-1]), x.dtype)
    matmul(W, patches(x, window), out=a.swapaxes(2, 3))
    return a


def outer(x, d, window, out=None):
    """-> dW (H', W', n_out, K)."""
    rows, seen = d.swapaxes(2, 3), patches(x, window).swapaxes(3, 4)
    if len(x) == 1:
        return matmul(rows[0], seen[0], out=out)
    return matmul(rows, seen).sum(axis=0, out=out)


def adjoint(d, W, shape, window):
    """-> dx of `shape` (T, H, C, W, nb)."""
    g = matmul(W.swapaxes(2, 3), d.swapaxes(2, 3))
    dx = array_module(d).empty(shape, d.dtype)
    T, H, C, width, nb = shape
    run(SOURCE, "gather", d, *along(T * H * C * width, nb), g, dx, *numbers(shape, window))
    return dx
