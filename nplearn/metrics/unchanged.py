"""Looking at a net, a rule and an optimiser in action, and leaving no trace: everything is put back afterwards."""
from collections import deque
from contextlib import contextmanager
from copy import copy
from types import MethodType, ModuleType

import numpy as np


def reachable(*roots):
    """Everything that the roots hold, directly or through others, each once."""
    found, left = {}, list(roots)
    while left:
        held = left.pop()
        if id(held) in found or isinstance(held, ModuleType | type):
            continue
        found[id(held)] = held
        if isinstance(held, dict):
            left += [*held, *held.values()]
        elif isinstance(held, list | tuple | set | frozenset | deque):
            left += held
        elif isinstance(held, MethodType):
            left.append(held.__self__)
        elif not isinstance(held, np.ndarray):
            left += getattr(held, "__dict__", {}).values()
    return list(found.values())


@contextmanager
def unchanged(*roots):
    """Afterwards all that the roots hold is as it was, whatever happens: attributes, containers, generators, arrays."""
    buffers, containers, generators = {}, [], []
    for held in reachable(*roots):
        if isinstance(held, np.ndarray):
            while isinstance(held.base, np.ndarray):    # views of one buffer: once, all of it
                held = held.base
            if held.flags.writeable and id(held) not in buffers:
                buffers[id(held)] = held, held.copy()
            continue
        if isinstance(held, np.random.Generator):
            generators.append((held.bit_generator, held.bit_generator.state))
        container = held if isinstance(held, dict | set | list | deque) else getattr(held, "__dict__", None)
        if container is not None:
            containers.append((container, copy(container)))
    try:
        yield
    finally:
        for buffer, was in buffers.values():
            buffer[...] = was
        for container, was in containers:
            container.clear()
            (container.update if isinstance(container, dict | set) else container.extend)(was)
        for bits, state in generators:
            bits.state = state
