"""Max pooling, a thread for each entry of what is written: one launch up, one down, no atomics.

    up      y[o]  = the largest x among the taps of o
    down    dx[h] = sum of d[o] over the windows o that see h and whose first maximum it is, in the order of taps

Plain bodies: max_forward and max_backward in kernels/pool.py, tap by tap.
"""
from nplearn.backend import array_module
from nplearn.kernels.gpu.launch import along, contiguous, run
from nplearn.kernels.gpu.window import PARAMETERS, numbers

SOURCE = """
extern "C" __global__ void up(const T* x, T* y, WINDOW) {
    long long line = blockIdx.x, c = line % C, r = line / C % h, t = line / C / h;      // row r of channel c of chunk t
    for (int l = blockIdx.y * blockDim.x + threadIdx.x; l < (int)(w * nb); l += gridDim.y * blockDim.x) {
        int o = l / (int)nb, s = l % (int)nb;
        T zero = 0, best = -1 / zero;
        for (int i = 0; i < kh; ++i) {
            long long row = r * sh + i * dh - top;
            if (row < 0 || row >= H) continue;
            for (int j = 0; j < kw; ++j) {
                long long column = o * sw + j * dw - left;
                if (column < 0 || column >= W) continue;
                T seen = x[(((t * H + row) * C + c) * W + column) * nb + s];
                if (seen > best || seen != seen) best = seen;
            }
        }
        y[line * w * nb + l] = best;
    }
}

extern "C" __global__ void down(const T* d, const T* x, const T* y, T* dx, WINDOW) {
    long long line = blockIdx.x, c = line % C, a = line / C % H, t = line / C / H;
    for (int l = blockIdx.y * blockDim.x + threadIdx.x; l < (int)(W * nb); l += gridDim.y * blockDim.x) {
        int b = l / (int)nb, s = l % (int)nb;
        T mine = x[line * W * nb + l], sum = 0;
        for (int i = 0; i < kh; ++i) {
            int below = a + top - i * dh, r = below / (int)sh;                  // the output whose tap (i, j) this is
            if (below < 0 || below % (int)sh || r >= h) continue;
            for (int j = 0; j < kw; ++j) {
                int behind = b + left - j * dw, o = behind / (int)sw;
                if (behind < 0 || behind % (int)sw || o >= w) continue;
                long long out = (((t * h + r) * C + c) * w + o) * nb + s;
                if (mine != y[out]) continue;
                bool first = true;
                for (int q = 0; first && q < i * kw + j; ++q) {
                    long long row = r * sh + q / (int)kw * dh - top, column = o * sw + q % (int)kw * dw - left;
                    if (row < 0 || row >= H || column < 0 || column >= W) continue;
                    first = x[(((t * H + row) * C + c) * W + column) * nb + s] != mine;
                }
                if (first) sum += d[out];
            }
        }
        dx[line * W * nb + l] = sum;
    }
}
""".replace("WINDOW", PARAMETERS)


def max_forward(x, window):
    """The largest of each window; padding never wins. -> (T, H', C, W', nb)."""
    x, = contiguous(x)
    h, w = window.out(x.shape[1], x.shape[3])
    y = array_module(x).empty((x.shape[0], h, x.shape[2], w, x.shape[4]), x.dtype)
    run(SOURCE, "up", x, *along(len(x) * h * x.shape[2], w * x.shape[4]), x, y, *numbers(x.shape, window))
    return y


def max_backward(d, x, y, window):
    """d goes to the first tap (row by row) that reached the maximum."""
    d, x, y = contiguous(d, x, y)
    dx = array_module(x).empty(x.shape, x.dtype)
    T, H, C, W, nb = x.shape
    run(SOURCE, "down", x, *along(T * H * C, W * nb), d, x, y, dx, *numbers(x.shape, window))
    return dx
