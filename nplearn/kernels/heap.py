"""Memory that one step frees is kept for the next, instead of going to the system and coming back page by page.

glibc returns large blocks to the system when they are freed, so a training step that makes its activations anew pays
for their pages anew; with several lanes the page faults queue up as well. Two settings of its allocator stop that: up
to 32 MiB, the most that glibc takes, a block comes from the heap, and the heap does not shrink. They hold for the whole
process and change no result; its memory stays near the peak of a step instead of falling between steps. Where there is
no glibc nothing happens; CuPy keeps a GPU's memory in a pool of its own.

NPLEARN_HEAP=system in the environment leaves the allocator as it was.
"""
import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3                 # what mallopt calls them in malloc.h


def keep():
    """Change the settings; says whether the allocator took them."""
    if os.environ.get("NPLEARN_HEAP") == "system" or sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):                   # another C library
        return False
    return bool(mallopt(MMAP_THRESHOLD, 32 * 2**20)) and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1))
