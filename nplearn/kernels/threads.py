"""How many threads BLAS takes: a setting of the run, since the last bits of a large product depend on it.

One thread is the default everywhere in nplearn: results are then the same on any number of cores, nothing spins when
another job takes a core, and nets below a few million multiply-adds an update are fastest so.
"""
from threadpoolctl import ThreadpoolController


def blas_threads(n):
    """Give every BLAS in this process n threads; takes effect at once."""
    for library in ThreadpoolController().lib_controllers:
        library.set_num_threads(n)
