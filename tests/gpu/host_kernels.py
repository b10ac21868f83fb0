"""Our CUDA kernels on the host: a C++ compiler, where there is one, builds them, and a loop is the grid.

Threads of a block run one after the other, or, where a kernel has a barrier, in turns from barrier to barrier. So this
shows what a kernel computes and what it reads and writes, and nothing about races or speed. Arguments are checked as no
driver does: an argument whose type is not that of the kernel's parameter is refused.
"""
import atexit
import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
SCALARS = {"long long": np.int64, "int": np.int32, "double": np.float64}
SHIM = """
#include <math.h>
#include <stdlib.h>
#include <ucontext.h>
struct dim3 { unsigned x, y, z; };
static dim3 gridDim, blockDim, blockIdx, threadIdx;
#define __global__
#define __device__ static
#define __shared__ static
static ucontext_t scheduler, all[1024];
static bool finished[1024];
static char stacks[1024][16384];
static unsigned me;
static void (*body)();
static void __syncthreads() { swapcontext(&all[me], &scheduler); }
static void fibre() { body(); finished[me] = true; }
static void place(unsigned i) {
    me = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
}
static void in_turns(unsigned n) {
    for (unsigned i = 0; i < n; ++i) {
        finished[i] = false;
        getcontext(&all[i]);
        all[i].uc_stack.ss_sp = stacks[i];
        all[i].uc_stack.ss_size = sizeof stacks[i];
        all[i].uc_link = &scheduler;
        makecontext(&all[i], fibre, 0);
    }
    for (unsigned left = n; left;) {
        left = 0;
        for (unsigned i = 0; i < n; ++i) if (!finished[i]) {
            place(i);
            swapcontext(&scheduler, &all[i]);
            left += !finished[i];
        }
    }
}
static void grid(const unsigned* d, bool barrier) {
    gridDim = {d[0], d[1], d[2]}; blockDim = {d[3], d[4], d[5]};
    unsigned n = d[3] * d[4] * d[5];
    for (unsigned z = 0; z < d[2]; ++z) for (unsigned y = 0; y < d[1]; ++y) for (unsigned x = 0; x < d[0]; ++x) {
        blockIdx = {x, y, z};
        if (barrier) in_turns(n);
        else for (unsigned i = 0; i < n; ++i) { place(i); body(); }
    }
}
"""
_folder = None
_built = {}


def library(code):
    """The kernels of `code` as a library, each with a function `on_host_<name>(dimensions, arguments...)`."""
    global _folder
    if code not in _built:
        if _folder is None:
            _folder = Path(tempfile.mkdtemp(prefix="kernels"))
            atexit.register(shutil.rmtree, _folder, ignore_errors=True)
        calls = []
        for name, parameters in parameters_of(code).items():
            takes = ", ".join(f"{kind} {word}" for kind, word in parameters)
            kept = " ".join(f"static {kind} {name}_{word};" for kind, word in parameters)
            keeps = " ".join(f"{name}_{word} = {word};" for _, word in parameters)
            gives = ", ".join(f"{name}_{word}" for _, word in parameters)
            barrier = str("__syncthreads" in body_of(code, name)).lower()
            calls.append(f"{kept} static void thread_of_{name}() {{ {name}({gives}); }}\n"
                         f'extern "C" void on_host_{name}(const unsigned* dimensions, {takes}) '
                         f"{{ {keeps} body = thread_of_{name}; grid(dimensions, {barrier}); }}")
        file = _folder / f"{hashlib.md5(code.encode()).hexdigest()}.cpp"
        file.write_text("\n".join([SHIM, code, *calls]))
        subprocess.run([COMPILER, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", file.with_suffix(".so"), file],
                       check=True)
        _built[code] = ctypes.CDLL(str(file.with_suffix(".so")))
    return _built[code]


def parameters_of(code):
    """{kernel: [(type, name), ...]}."""
    found = {}
    for name, inside in re.findall(r'__global__ void (\w+)\((.*?)\)\s*{', code, re.S):
        words = [" ".join(part.split()) for part in inside.split(",")]
        found[name] = [tuple(word.rsplit(" ", 1)) for word in words]
    return found


def body_of(code, name):
    return re.search(rf'void {name}\(.*?\n}}', code, re.S).group()


class HostKernel:
    """Stands in for cupy.RawKernel."""

    launches = 0

    def __init__(self, code, name, options=()):
        self.code, self.name = code, name
        self.precision = np.float32 if "typedef float T;" in code else np.float64

    def __call__(self, grid, block, args):
        dimensions = (*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
        assert all(type(n) is int and n > 0 for n in dimensions) and np.prod(dimensions[3:]) <= 1024, dimensions
        assert dimensions[0] < 2**31 and max(dimensions[1:3]) < 65536
        parameters = parameters_of(self.code)[self.name]
        assert len(args) == len(parameters), f"{self.name}: {len(args)} arguments for {len(parameters)} parameters"
        given = [self.argument(kind, word, a) for (kind, word), a in zip(parameters, args, strict=True)]
        HostKernel.launches += 1
        getattr(library(self.code), f"on_host_{self.name}")((ctypes.c_uint * 6)(*dimensions), *given)

    def argument(self, kind, word, a):
        wanted, where = self.type_of(kind.replace("const ", "").rstrip("*")), f"{self.name}: {kind} {word}"
        if kind.endswith("*"):
            if type(a) is np.int64 and a == 0:          # a null pointer, as wide as one
                return ctypes.c_void_p(0)
            assert a.dtype == wanted, f"{where} is given {a.dtype}"
            assert a.flags.c_contiguous, f"{where} is given strides {a.strides}"
            return ctypes.c_void_p(a.data.ptr)
        assert type(a) is wanted, f"{where} is given {type(a).__name__}"
        return np.ctypeslib.as_ctypes_type(wanted)(a)

    def type_of(self, word):
        return self.precision if word == "T" else SCALARS[word]
