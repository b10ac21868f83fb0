"""The shifted copies that a convolution's windows are a view of, all in one launch.

    copies[g, r, j, c, o, n] = x[start + r, g C/G + c, o s + j dilation - left, n], zero outside the map

Plain body: `windows` in kernels/conv.py, a launch for each kernel column and two for the padding. That keeps its copies
for the next time; here every entry is written, so they come from CuPy's pool and go back to it.
"""
from nplearn.backend import array_module
from nplearn.kernels.gpu.launch import along, contiguous, run

SOURCE = """
extern "C" __global__ void columns(const T* x, T* copies, long long H, long long C, long long W, long long nb,
                                   long long rows, long long kw, long long c, long long width, long long start,
                                   long long left, long long stride, long long dilation) {
    long long line = blockIdx.x, channel = line % c, j = line / c % kw, r = line / c / kw % rows;
    long long group = line / c / kw / rows, h = start + r, shift = (j * dilation - left) * nb;
    int span = width * nb;
    bool inside = h >= 0 && h < H;
    const T* from = x + (inside ? ((h * C + group * c + channel) * W * nb) : 0);
    T* to = copies + line * span;
    for (int l = blockIdx.y * blockDim.x + threadIdx.x; l < span; l += gridDim.y * blockDim.x) {
        long long seen = shift + (stride == 1 ? l : l / (int)nb * stride * nb + l % (int)nb);
        to[l] = inside && seen >= 0 && seen < W * nb ? from[seen] : (T)0;
    }
}
"""


def windows(x, window, groups, first, n):
    """x (H, C, W, nb) -> (G, n, kh*kw*C/G, W'*nb) for the n output rows from `first` on."""
    xp, (H, C, W, nb), (kh, kw) = array_module(x), x.shape, window.kernel
    (down, across), (dilation, apart), c = window.stride, window.dilation, C // groups
    rows, width = (n - 1) * down + (kh - 1) * dilation + 1, window.out(H, W)[1]
    copies = xp.empty((groups, rows, kw, c, width, nb), x.dtype)
    x, = contiguous(x)
    run(SOURCE, "columns", x, *along(groups * rows * kw * c, width * nb), x, copies, H, C, W, nb, rows, kw, c, width,
        first * down - window.pads[0][0], window.pads[1][0], across, apart)
    group, row, _, channel, _, item = copies.strides
    view = xp.lib.stride_tricks.as_strided(copies, (groups, n, kh, kw * c, width * nb),
                                           (group, row * down, row * dilation, channel, item))
    return view.reshape(groups, n, kh * kw * c, width * nb)
