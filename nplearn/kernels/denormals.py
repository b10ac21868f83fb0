"""Numbers too small for full precision (denormals) are read and written as zero, where the processor can do that.

One operand full of denormals slows a matrix product a hundredfold, and training makes them: the momentum of a unit that
died shrinks as 0.9^n. On x86-64 with glibc two bits of the floating-point control register (flush to zero, denormals
are zero) turn them off, for the calling thread and for threads that it starts later. OpenBLAS starts its threads when
NumPy is imported, so nplearn calls `flush` before that where it can. Results change only where denormals occur.

NPLEARN_DENORMALS=keep in the environment leaves the processor as it was.
"""
import ctypes
import os
import platform
import sys

FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO = 0x8040           # bits of MXCSR, word 7 of glibc's fenv_t on x86-64
state = "kept"                                          # what `flush` said last


def flush():
    """Set the bits; says in a word what came of it: "flushed", "kept", "unsupported" or "late"."""
    global state
    if os.environ.get("NPLEARN_DENORMALS") == "keep":
        state = "kept"
    elif sys.platform != "linux" or platform.machine() != "x86_64" or not _set():
        state = "unsupported"
    else:
        state = "late" if "numpy" in sys.modules else "flushed"     # late: BLAS threads may still meet them
    return state


def _set():
    try:
        libm, environment = ctypes.CDLL("libm.so.6"), (ctypes.c_uint32 * 8)()
    except OSError:                                     # another C library
        return False
    libm.fegetenv(environment)
    environment[7] |= FLUSH_TO_ZERO_AND_DENORMALS_ARE_ZERO
    libm.fesetenv(environment)
    return True
