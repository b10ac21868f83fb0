"""A run goes on where it was stopped: what a checkpoint holds of a Trainer, and whether this run may take it up.

    arrays      net/PATH (weights, running statistics), rule/PATH (feedback), optim/NAME/SLOT (momentum, ...)
    meta        where the run stood, its history, the settings that decide its bits, and what else they depend on

Draws are functions of (seed, step), so no generator's state is among them. Before anything is changed every difference
in settings and arrays is listed in one error; a damaged newest file gives way to the one before it.
"""
import inspect
import json
import math
import os
import platform

import numpy as np
import threadpoolctl
from tqdm import tqdm

import nplearn
from nplearn import checkpoint
from nplearn.backend import like
from nplearn.errors import CheckpointError
from nplearn.kernels import denormals
from nplearn.kernels.gpu import gemm, launch
from nplearn.layers import everything, leaves

STATE = ("epoch", "index", "step", "sums", "early", "history")      # of the Trainer itself


def save(trainer):
    """Write `trainer.file`: all that the run needs to go on to the same bits."""
    states = {f"optim/{name}/{slot}": array for name, optimiser in optimisers(trainer).items()
              for slot, array in optimiser.state().items()}
    meta = {**{name: getattr(trainer, name) for name in STATE}, "settings": settings(trainer),
            "record": run_record(trainer.net.device), "about": trainer.about}
    checkpoint.save(trainer.file, {**arrays(trainer), **states}, plain(meta))


def load(trainer):
    """Put the newest whole checkpoint of the trainer's folder into it; False if there is none at all.

    CheckpointError lists every difference if it is another run's; nothing has been changed then.
    """
    file = checkpoint.latest(trainer.file)
    if file is None:
        return False
    if file != trainer.file:
        state = "damaged" if os.path.exists(trainer.file) else "missing"
        tqdm.write(f"{trainer.file} is {state}; going on from {file}, the one before it")
    held, meta = checkpoint.load(file)
    where = f"checkpoint {file}"
    if not {"settings", "record", *STATE} <= meta.keys():
        raise CheckpointError(where, "no state of a training", "a checkpoint that a Trainer wrote",
                              "choose another folder, or read it with checkpoint.load")
    optim = {name: array for name, array in held.items() if name.startswith("optim/")}
    found = {name: array for name, array in held.items() if name not in optim}
    differences = []
    for compare_, mine, theirs in ((compare_settings, plain(settings(trainer)), meta["settings"]),
                                   (compare, arrays(trainer), found)):
        try:
            compare_(mine, theirs, where)
        except CheckpointError as error:
            differences.append(error.got)
    if differences:
        raise CheckpointError(where, ", ".join(differences), "the settings and arrays of this run",
                              "give the settings it was saved with, or another folder")
    for name, optimiser in optimisers(trainer).items():
        head = f"optim/{name}/"
        optimiser.load({key[len(head):]: array for key, array in optim.items() if key.startswith(head)})
    copy_into(arrays(trainer), found, where=where)
    for name in STATE:
        setattr(trainer, name, meta[name])
    for sentence in record_differences(meta["record"], run_record(trainer.net.device)):
        tqdm.write(f"resumed, but bits may differ: {sentence}")
    return True


# What a run consists of

def net_arrays(net):
    """{net/PATH: live array}: weights and running statistics."""
    live = {f"net/{param.path}": param.value for param in net.arena.params}
    for layer in everything(net):
        live |= {f"net/{layer.path}.{name}": array for name, array in layer.buffers().items()}
    return live


def arrays(trainer):
    """Those of the net, and {rule/PATH: live array} of the feedback."""
    return net_arrays(trainer.net) | {f"rule/{path}": array for path, array in trainer.rule.arrays().items()}


def optimisers(trainer):
    """{name: Optimiser}: of the weights, and of what the rule steps itself."""
    return {"weights": trainer.optimiser,
            **{f"rule.{name}": optimiser for name, optimiser in trainer.rule.optimisers().items()}}


def settings(trainer):
    """What must be the same for a resumed run to be the same run."""
    net, loader = trainer.net, trainer.train
    layers = {layer.path: {"kind": type(layer).__name__, **_options(layer)} for layer in leaves(net)}
    return {"net": layers, "order of layers": list(layers), "in_shape": net.in_shape,
            "rule": [type(trainer.rule).__name__, trainer.rule.settings()], "loss": type(trainer.loss).__name__,
            "optimisers": {name: optimiser.settings() for name, optimiser in optimisers(trainer).items()},
            "dtype": str(net.dtype), "seed": trainer.seed, "data": loader.data.name, "records": len(loader.data),
            "batch": loader.size, "loader_seed": loader.seed, "shuffle": loader.shuffle, "drop_last": loader.drop_last,
            "augment": repr(loader.augment), "denormals": denormals.state}


def _options(layer):
    """What a layer was made with: its arguments, as far as it keeps them by name (a probability, a stride, ...)."""
    return {name: value for name in inspect.signature(type(layer).__init__).parameters
            if isinstance(value := vars(layer).get(name), (bool, int, float, str, tuple)) and name != "init"}


def plain(x):
    """x in what JSON can hold exactly: NaN becomes None, tuples lists, NumPy numbers Python's."""
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    if isinstance(x, np.generic):
        x = x.item()
    return None if isinstance(x, float) and not math.isfinite(x) else x


# Whether it is the same run

def compare(expected, found, where):
    """Refuse `found` (name -> array, or (shape, dtype)) with every difference from `expected` in one error."""
    expected, found = ({name: _in_words(value) for name, value in arrays.items()} for arrays in (expected, found))
    _refuse(expected, found, where, "the arrays of this run")


def _in_words(value):
    shape, dtype = value if isinstance(value, tuple) else (value.shape, value.dtype)
    return f"{' x '.join(map(str, shape)) or '0-d'} {np.dtype(dtype)}"


def compare_settings(expected, found, where, ignore=()):
    """The same for nested dicts of settings; `ignore` lists settings or groups of them, dotted, that may differ."""
    free = tuple(f"{name}." for name in ignore)
    expected, found = ({name: value for name, value in _flat(json.loads(json.dumps(settings), parse_constant=str))
                        if not f"{name}.".startswith(free)} for settings in (expected, found))
    _refuse(expected, found, where, "the settings of this run")


def _flat(settings, prefix=""):
    for key, value in settings.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(prefix + key, value)]


def _refuse(expected, found, where, what):
    nothing = object()
    differences = [f"{name} is missing" if name not in found else f"{name} is surplus" if name not in expected
                   else f"{name} is {found[name]} instead of {expected[name]}"
                   for name in {**expected, **found} if expected.get(name, nothing) != found.get(name, nothing)]
    if differences:
        raise CheckpointError(where, ", ".join(differences), what, "build the run as it was when it was saved")


def copy_into(targets, arrays, prefix="", where="checkpoint"):
    """Fill the live arrays `targets` (name -> array) with those of `arrays` that start with `prefix`: all or none.

    >>> weight = np.zeros(2)
    >>> copy_into({"fc.weight": weight}, {"net/fc.weight": np.ones(2), "optim/step": np.array(7)}, "net/")
    >>> weight
    array([1., 1.])
    """
    targets = {prefix + name: target for name, target in targets.items()}
    arrays = {name: array for name, array in arrays.items() if name.startswith(prefix)}
    compare(targets, arrays, where)
    for name, target in targets.items():
        target[...] = like(arrays[name], target)


def run_record(device=None):
    """What the bits of a run depend on besides its settings; `device` is a `backend.Device`, the CPU if None."""
    libraries = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    blas = next((library for library in libraries if "numpy" in library["filepath"]), (libraries or [{}])[0])
    record = {"nplearn": nplearn.__version__, "numpy": np.__version__, "python": platform.python_version(),
              "system": platform.system(), "machine": platform.machine(), "device": "cpu",
              "BLAS": " ".join(str(blas.get(key)) for key in ("internal_api", "version", "architecture")),
              "BLAS threads": blas.get("num_threads")}
    if device is not None and device.xp is not np:
        runtime = device.xp.cuda.runtime
        record |= {"device": runtime.getDeviceProperties(device.index)["name"].decode(),
                   "cupy": device.xp.__version__, "CUDA": runtime.runtimeGetVersion(),
                   "NPLEARN_TF32": gemm.TF32, "NPLEARN_KERNELS": "plain" if launch.PLAIN else "own",
                   "CUPY_TF32": os.environ.get("CUPY_TF32", "0")}
    return record


def record_differences(then, now):
    """A sentence for each thing that differs, because of which a resumed run may end in other bits.

    >>> record_differences({"numpy": "2.1.0", "machine": "x86_64"}, {"numpy": "2.2.0", "machine": "x86_64"})
    ['numpy was 2.1.0 and is now 2.2.0']
    """
    return [f"{key} was {then.get(key, 'absent')} and is now {now.get(key, 'absent')}" for key in {**then, **now}
            if then.get(key) != now.get(key)]
