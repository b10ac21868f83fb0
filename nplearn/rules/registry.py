"""Every rule by its short name, for the command line, the comparison, `scope` and the contract.

A rule of another package registers through the entry-point group `nplearn.rules`: the entry's name is the short name,
its object a Rule class or a function without required arguments that returns a Rule.

    make("fa")        make("pfa:expand=5,density=0.3")        make("dfa:form=biotorch")
"""
import inspect
import json
from difflib import get_close_matches
from functools import partial
from importlib.metadata import entry_points

from nplearn.errors import SettingError
from nplearn.rules.alignment import Alignment
from nplearn.rules.auxiliary_output import AuxiliaryOutput
from nplearn.rules.backprop import Backprop
from nplearn.rules.burst import Burst
from nplearn.rules.closed_inversion import ClosedInversion
from nplearn.rules.controls import Frozen, Shuffled
from nplearn.rules.difference_reconstruction import DifferenceReconstruction, DirectDifferenceReconstruction
from nplearn.rules.difference_target_propagation import (
    DifferenceTargetPropagation,
    SimplifiedDifferenceTargetPropagation,
)
from nplearn.rules.direct_feedback_alignment import DirectFeedbackAlignment
from nplearn.rules.direct_targets import DirectRandomTargetProjection, SignDirectFeedbackAlignment
from nplearn.rules.dynamic_inversion import DynamicInversion
from nplearn.rules.equilibrium_propagation import EquilibriumPropagation
from nplearn.rules.feedback_alignment import FeedbackAlignment
from nplearn.rules.fixed_prediction import FixedPrediction
from nplearn.rules.fixed_weight_target_propagation import FixedWeightTargetPropagation
from nplearn.rules.forward_forward import ForwardForward
from nplearn.rules.forward_gradient import ForwardGradient
from nplearn.rules.gait_prop import GaitProp
from nplearn.rules.indirect_feedback_alignment import IndirectFeedbackAlignment
from nplearn.rules.kolen_pollack import KolenPollack
from nplearn.rules.local_difference_reconstruction import LocalDifferenceReconstruction
from nplearn.rules.local_losses import LocalLosses
from nplearn.rules.pepita import Pepita
from nplearn.rules.perturbation import NodePerturbation
from nplearn.rules.perturbation_trained_feedback import PerturbationTrainedFeedback
from nplearn.rules.predictive_coding import PredictiveCoding
from nplearn.rules.product_feedback_alignment import ProductFeedbackAlignment
from nplearn.rules.reciprocal import Reciprocal
from nplearn.rules.reciprocal_oracle import ReciprocalOracle
from nplearn.rules.sign_concordant import (
    BatchRandomSignConcordant,
    FixedRandomSignConcordant,
    UniformSignConcordant,
)
from nplearn.rules.single_loop_inversion import SingleLoopInversion
from nplearn.rules.target_propagation import TargetPropagation
from nplearn.rules.vector_broadcast import VectorBroadcast
from nplearn.rules.weight_mirror import WeightMirror
from nplearn.rules.zero_divergence import ZeroDivergence

FAMILIES = {                                            # title: {short name: (class, options)}
    "random, direct and sign feedback": {
        "backprop": (Backprop, {}),
        "fa": (FeedbackAlignment, {}),
        "dfa": (DirectFeedbackAlignment, {}),
        "drtp": (DirectRandomTargetProjection, {}),
        "sdfa": (SignDirectFeedbackAlignment, {}),
        "ifa": (IndirectFeedbackAlignment, {}),
        "usf": (UniformSignConcordant, {}),
        "brsf": (BatchRandomSignConcordant, {}),
        "frsf": (FixedRandomSignConcordant, {}),
    },
    "learned feedback": {
        "kp": (KolenPollack, {}),
        "pfa": (ProductFeedbackAlignment, {}),
        "pfa-o": (ProductFeedbackAlignment, {"expand": 1, "lift": "orthogonal"}),
        "wm": (WeightMirror, {}),
        "ia": (Alignment, {"amp": 2e-3, "null": 1e-3, "decay": 1e-3}),
        "sa": (Alignment, {"decay": 1e-3, "self_": 2e-3}),
        "aa": (Alignment, {"sparse": 1e-3, "amp": 2e-3}),
        "ptf": (PerturbationTrainedFeedback, {}),
    },
    "inverse feedback": {
        "rf": (Reciprocal, {}),
        "rf-sleep": (Reciprocal, {"steps": 0, "sleep": 60}),
        "rf-exact": (ReciprocalOracle, {}),
        "ndi": (ClosedInversion, {}),
        "di": (DynamicInversion, {}),
        "sdi": (SingleLoopInversion, {}),
    },
    "targets": {
        "tp": (TargetPropagation, {}),
        "dtp": (DifferenceTargetPropagation, {}),
        "sdtp": (SimplifiedDifferenceTargetPropagation, {}),
        "ao-sdtp": (AuxiliaryOutput, {}),
        "fw-dtp": (FixedWeightTargetPropagation, {}),
        "l-drl": (LocalDifferenceReconstruction, {}),
        "drl": (DifferenceReconstruction, {}),
        "ddtp": (DirectDifferenceReconstruction, {}),
        "gait": (GaitProp, {}),
    },
    "activities that settle": {
        "pc": (PredictiveCoding, {}),
        "pc-fa": (partial(PredictiveCoding, FeedbackAlignment), {}),
        "pc-kp": (partial(PredictiveCoding, KolenPollack), {}),
        "pc-rf": (partial(PredictiveCoding, Reciprocal), {}),
        "fpa": (FixedPrediction, {}),
        "zil": (ZeroDivergence, {}),
        "ep": (EquilibriumPropagation, {}),
    },
    "local losses, second passes, other units": {
        "pred": (LocalLosses, {"heads": "pred"}),
        "sim": (LocalLosses, {"heads": "sim"}),
        "predsim": (LocalLosses, {}),
        "pepita": (Pepita, {}),
        "ff": (ForwardForward, {}),
        "np": (NodePerturbation, {}),
        "forward-gradient": (ForwardGradient, {}),
        "burst": (Burst, {}),
        "gevb": (VectorBroadcast, {}),
    },
}
RULES = {name: made for family in FAMILIES.values() for name, made in family.items()}
IN_PYTHON = "optimiser", "through"                      # options that no text says
CONTROLS = {"frozen": (Frozen, {}), "shuffled": (Shuffled, {})}


def names(controls=False):
    """Short names of all rules, ours first, then those of other packages; with the controls at the end if asked."""
    return [*RULES, *(e.name for e in entry_points(group="nplearn.rules") if e.name not in RULES),
            *(CONTROLS if controls else ())]


def split(text):
    """"fa,pfa:expand=5,density=0.3,kp" -> ["fa", "pfa:expand=5,density=0.3", "kp"]: a part with "=" is an option."""
    found = []
    for part in text.split(","):
        if "=" in part and ":" not in part and found:
            found[-1] += "," + part
        else:
            found.append(part)
    return found


def options_of(name):
    """The options that a short name stands for: {"expand": 1, "lift": "orthogonal"} for pfa-o."""
    return _find(name)[1]


def takes(name):
    """The options that can be written after a short name, with what they are unless given: {"scale": 1.0} for fa."""
    factory, options = _find(name)
    defaults = {key: param.default for key, param in inspect.signature(factory).parameters.items()}
    return {key: value for key, value in {**defaults, **options}.items() if key not in IN_PYTHON}


def make(text):
    """A new rule from a short name, with options after a colon: "pfa:expand=5,path=direct"."""
    name, _, rest = text.strip().partition(":")
    factory, options = _find(name)
    options = {**options, **dict(_option(name, part) for part in rest.split(",") if part.strip())}
    try:
        return factory(**options)
    except TypeError as error:
        known = ", ".join(f"{key}={json.dumps(value, default=str)}" for key, value in takes(name).items()) or "none"
        raise SettingError(f"rule {name}", f"options {rest!r} ({error})", f"its options {known}",
                           f"see python -m nplearn rules {name}") from error


def _find(name):
    known = {**RULES, **CONTROLS}
    if name in known:
        return known[name]
    for entry in entry_points(group="nplearn.rules"):
        if entry.name == name:
            try:
                factory = entry.load()
            except Exception as error:                  # whatever another package's import raises
                raise SettingError(f"rule {name}", f"its package does not load ({error})", "a Rule class",
                                   f"mend or remove the package that registers {entry.value}") from error
            if not callable(factory):
                raise SettingError(f"rule {name}", f"{entry.value}, which is {factory!r}", "a Rule class or a function",
                                   "mend its entry point")
            return factory, {}
    near = get_close_matches(name.lower(), names(controls=True), n=3, cutoff=0.5)
    raise SettingError("rule", f"{name!r}", f"one of {', '.join(names(controls=True))}",
                       (f"did you mean {' or '.join(near)}? " if near else "") + "See python -m nplearn rules")


def _option(name, part):
    key, equals, value = part.partition("=")
    if not equals:
        raise SettingError(f"rule {name}", f"option {part!r}", "key=value", "write it as key=value")
    try:
        return key.strip(), json.loads(value)
    except json.JSONDecodeError:
        return key.strip(), value.strip()
