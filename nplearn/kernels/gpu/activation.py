"""An error times the slope of an activation, in one launch for any activation that says its slope in C.

    d f'(x)    with f' written in terms of y = f(x): `slope_in_c`, an expression of y and of the layer's settings

Plain body: `times_slope` in layers/activation.py.
"""
from nplearn.backend import array_module
from nplearn.kernels.gpu.launch import contiguous, flat, run

SOURCE = """
extern "C" __global__ void times_slope(const T* d, const T* values, T* out, long long n) {
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < n;
         at += (long long)gridDim.x * blockDim.x) {
        T y = values[at];
        out[at] = d[at] * (T)(SLOPE);
    }
}
"""


def in_c(layer):
    """The source for an activation, with its settings written out."""
    return SOURCE.replace("SLOPE", layer.slope_in_c.format(**vars(layer)))


def times_slope(layer, d, y):
    """d times the slope of `layer` where its output is y."""
    d, y = contiguous(d, y)
    out = array_module(d).empty(d.shape, d.dtype)
    run(in_c(layer), "times_slope", d, *flat(d.size), d, y, out, d.size)
    return out
