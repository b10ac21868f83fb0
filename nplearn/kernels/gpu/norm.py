"""Sums per channel and batch normalisation, a pass over the data to a launch.

    parts         block (c, p) adds x and x y over some rows of channel c, by thread, then by a tree: a fixed order
    total         both sums over p: `sum_and_dot`
    affine        gain x + shift
    moments       both sums over p -> mean, 1 / sqrt(v + eps), and the running statistics move
    normalise     scale (x - mean) / sqrt(v + eps) + shift
    dots          both sums over p -> sum d, sum d z
    jacobian      scale / sqrt(v + eps) (d - mean(d) - z mean(d z))

Plain bodies: the functions of the same names in kernels/norm.py.

x is (T, F, nb) or (T, H, C, W, nb): R = T or T H rows of C channels of L = nb or W nb entries. Everything is added and
multiplied in float64 and rounded once. For float32 that makes centring unnecessary, wherever the mean lies: products of
two float32 numbers are exact in float64. For float64 the plain body decides what is centred, which on a GPU is always.
"""
import numpy as np

from nplearn.backend import array_module
from nplearn.kernels.gpu.launch import along, contiguous, flat, run

SOURCE = """
// 256 threads
extern "C" __global__ void parts(const T* x, const T* y, double* part, long long R, long long C, long long L,
                                 long long each) {
    __shared__ double sums[256], dots[256];
    int me = threadIdx.y * blockDim.x + threadIdx.x;
    long long c = blockIdx.x, p = blockIdx.y, end = (p + 1) * each < R ? (p + 1) * each : R;
    double sum = 0, dot = 0;
    for (long long r = p * each + threadIdx.y; r < end; r += blockDim.y)
        for (long long l = threadIdx.x; l < L; l += blockDim.x) {
            double a = x[(r * C + c) * L + l];
            sum += a;
            dot += a * (double)y[(r * C + c) * L + l];
        }
    sums[me] = sum;
    dots[me] = dot;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (me < half) {
            sums[me] += sums[me + half];
            dots[me] += dots[me + half];
        }
        __syncthreads();
    }
    if (me == 0) {
        part[(p * 2) * C + c] = sums[0];
        part[(p * 2 + 1) * C + c] = dots[0];
    }
}

__device__ double over(const double* part, long long which, long long c, long long C, long long P) {
    double sum = 0;
    for (long long p = 0; p < P; ++p) sum += part[(p * 2 + which) * C + c];
    return sum;
}

extern "C" __global__ void total(const double* part, double* out, long long C, long long P) {
    long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    out[c] = over(part, 0, c, C, P);
    out[C + c] = over(part, 1, c, C, P);
}

extern "C" __global__ void moments(const double* part, long long C, long long P, double m, double eps, double momentum,
                                   double* mean, double* variance, double* centre, double* inverse) {
    long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    double mu = over(part, 0, c, C, P) / m, v = over(part, 1, c, C, P) / m - mu * mu;
    if (v < 0) v = 0;
    if (mean) {
        mean[c] += momentum * (mu - mean[c]);
        variance[c] += momentum * (v * m / (m > 1 ? m - 1 : 1) - variance[c]);
    }
    centre[c] = mu;
    inverse[c] = 1 / sqrt(v + eps);
}

extern "C" __global__ void dots(const double* part, long long C, long long P, const double* centre,
                                const double* inverse, double* out) {
    long long c = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    double sum = over(part, 0, c, C, P);
    out[c] = sum;
    out[C + c] = (over(part, 1, c, C, P) - centre[c] * sum) * inverse[c];
}

extern "C" __global__ void affine(const T* x, T* y, const double* gain, const double* shift, long long C, long long L) {
    long long line = blockIdx.x, c = line % C;
    double a = gain[c], b = shift[c];
    for (long long l = (long long)blockIdx.y * blockDim.x + threadIdx.x; l < L; l += (long long)gridDim.y * blockDim.x)
        y[line * L + l] = (T)(a * (double)x[line * L + l] + b);
}

extern "C" __global__ void normalise(const T* x, T* y, const T* scale, const T* shift, const double* centre,
                                     const double* inverse, long long C, long long L) {
    long long line = blockIdx.x, c = line % C;
    double a = (double)scale[c] * inverse[c], mu = centre[c], b = shift[c];
    for (long long l = (long long)blockIdx.y * blockDim.x + threadIdx.x; l < L; l += (long long)gridDim.y * blockDim.x)
        y[line * L + l] = (T)(a * ((double)x[line * L + l] - mu) + b);
}

extern "C" __global__ void jacobian(const T* d, const T* x, T* dx, const T* scale, const double* centre,
                                    const double* inverse, const double* sum_d, const double* sum_dz, double m,
                                    long long C, long long L) {
    long long line = blockIdx.x, c = line % C;
    double a = (double)scale[c] * inverse[c], mu = centre[c], slope = inverse[c] * sum_dz[c] / m, mean = sum_d[c] / m;
    for (long long l = (long long)blockIdx.y * blockDim.x + threadIdx.x; l < L; l += (long long)gridDim.y * blockDim.x)
        dx[line * L + l] = (T)(a * ((double)d[line * L + l] - mean - slope * ((double)x[line * L + l] - mu)));
}
"""


def sizes(x):
    """(R, C, L) of x."""
    return (x.shape[0], *x.shape[1:]) if x.ndim == 3 else (x.shape[0] * x.shape[1], x.shape[2], x.shape[3] * x.shape[4])


def parts(x, y):
    """Sums of x and of x y, (P, 2, C) float64, still to be added over P, which is a function of x's shape alone."""
    x, y = contiguous(x, y)
    R, C, L = sizes(x)
    each = -(-R // min(R, max(1, 1024 // C)))           # rows a block: about 1024 blocks, which keep a GPU busy
    part = array_module(x).empty((-(-R // each), 2, C), "float64")
    across = next((n for n in (32, 64, 128) if n >= L), 256)               # threads along a row; 256 in all
    run(SOURCE, "parts", x, (C, len(part)), (across, 256 // across), x, y, part, R, C, L, each)
    return part


def sum_and_dot(x, y):
    """(sum of x, sum of x y) over samples and positions, each (C,) float64."""
    part = parts(x, y)
    P, _, C = part.shape
    out = array_module(x).empty((2, C), "float64")
    run(SOURCE, "total", x, *flat(C), part, out, C, P)
    return out[0], out[1]


def affine(x, gain, shift):
    """gain x + shift, two numbers (C,) a channel, which are taken as float64."""
    x, = contiguous(x)
    (R, C, L), y = sizes(x), array_module(x).empty(x.shape, x.dtype)
    gain, shift = contiguous(gain.astype("float64", copy=False), shift.astype("float64", copy=False))
    run(SOURCE, "affine", x, *along(R * C, L), x, y, gain, shift, C, L)
    return y


def normalise(x, scale, shift, eps, mean=None, variance=None, momentum=0.0):
    """Batch normalisation of x: (y, the batch's mean, 1 / sqrt(v + eps)); `mean` and `variance`, where given, follow in
    place."""
    part, xp, (R, C, L) = parts(x, x), array_module(x), sizes(x)
    centre, inverse = xp.empty(C, "float64"), xp.empty(C, "float64")
    run(SOURCE, "moments", x, *flat(C), part, C, len(part), np.float64(R * L), np.float64(eps), np.float64(momentum),
        mean, variance, centre, inverse)
    x, = contiguous(x)
    y = xp.empty(x.shape, x.dtype)
    run(SOURCE, "normalise", x, *along(R * C, L), x, y, scale, shift, centre, inverse, C, L)
    return y, centre, inverse


def dots(d, x, centre, inverse):
    """Sum of d and of d z, z = (x - centre) inverse, per channel, (C,) float64."""
    part = parts(d, x)
    P, _, C = part.shape
    out = array_module(d).empty((2, C), "float64")
    run(SOURCE, "dots", d, *flat(C), part, C, P, centre, inverse, out)
    return out[0], out[1]


def jacobian(d, x, centre, inverse, scale, sum_d, sum_dz):
    """What BatchNorm sends down: d without what batch mean and variance take out of it."""
    (d, x), (R, C, L) = contiguous(d, x), sizes(d)
    dx = array_module(d).empty(d.shape, d.dtype)
    run(SOURCE, "jacobian", d, *along(R * C, L), d, x, dx, scale, centre, inverse, *contiguous(sum_d, sum_dz),
        np.float64(R * L), C, L)
    return dx
