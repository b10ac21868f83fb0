"""Rules of credit assignment: one file an idea."""
from nplearn.rules.alignment import Alignment
from nplearn.rules.auxiliary_output import AuxiliaryOutput
from nplearn.rules.backprop import Backprop
from nplearn.rules.base import EXACT_TOP, NEEDS_CHAIN, NO_TRANSPORT, NOISY, REDUCES, SAMPLES_APART, Rule
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
from nplearn.rules.mixed import Mixed
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

__all__ = ["Alignment", "AuxiliaryOutput", "Backprop", "BatchRandomSignConcordant", "Burst", "ClosedInversion",
           "DifferenceReconstruction", "DifferenceTargetPropagation", "DirectDifferenceReconstruction",
           "DirectFeedbackAlignment", "DirectRandomTargetProjection", "DynamicInversion", "EXACT_TOP",
           "EquilibriumPropagation", "FeedbackAlignment", "FixedPrediction", "FixedRandomSignConcordant",
           "FixedWeightTargetPropagation", "ForwardForward", "ForwardGradient", "Frozen", "GaitProp",
           "IndirectFeedbackAlignment", "KolenPollack", "LocalDifferenceReconstruction", "LocalLosses", "Mixed",
           "NEEDS_CHAIN", "NOISY", "NO_TRANSPORT", "NodePerturbation", "Pepita", "PerturbationTrainedFeedback",
           "PredictiveCoding", "ProductFeedbackAlignment", "REDUCES", "Reciprocal", "ReciprocalOracle", "Rule",
           "SAMPLES_APART", "Shuffled", "SignDirectFeedbackAlignment", "SimplifiedDifferenceTargetPropagation",
           "SingleLoopInversion", "TargetPropagation", "UniformSignConcordant", "VectorBroadcast", "WeightMirror",
           "ZeroDivergence"]
