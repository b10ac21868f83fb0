"""What a run's threads do: in nets that work on maps they are lanes, in dense nets they are BLAS's.

Lanes change no bit. BLAS's threads can change the last bits of a large product, so their number is a setting of the
run; one is the default everywhere: nothing spins when another job takes a core, and nets below a few million
multiply-adds an update are fastest so.
"""
from threadpoolctl import ThreadpoolController

from nplearn.kernels import lanes


def use_threads(n, laned):
    """Give n threads to the lanes of nets whose layers share their work out, or else to BLAS; the other gets one."""
    lanes.use(n if laned else 1)
    blas_threads(1 if laned else n)


def blas_threads(n):
    """Give every BLAS in this process n threads; takes effect at once."""
    for library in ThreadpoolController().lib_controllers:
        library.set_num_threads(n)
