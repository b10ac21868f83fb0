"""Rules of credit assignment: one file an idea."""
from nplearn.rules.backprop import Backprop
from nplearn.rules.base import EXACT_TOP, NO_TRANSPORT, REDUCES, SAMPLES_APART, Rule
from nplearn.rules.controls import Frozen, Shuffled
from nplearn.rules.direct_feedback_alignment import DirectFeedbackAlignment
from nplearn.rules.feedback_alignment import FeedbackAlignment
from nplearn.rules.kolen_pollack import KolenPollack
from nplearn.rules.mixed import Mixed
from nplearn.rules.product_feedback_alignment import ProductFeedbackAlignment
from nplearn.rules.sign_concordant import (
    BatchRandomSignConcordant,
    FixedRandomSignConcordant,
    UniformSignConcordant,
)

__all__ = ["Backprop", "BatchRandomSignConcordant", "DirectFeedbackAlignment", "EXACT_TOP", "FeedbackAlignment",
           "FixedRandomSignConcordant", "Frozen", "KolenPollack", "Mixed", "NO_TRANSPORT", "ProductFeedbackAlignment",
           "REDUCES", "Rule", "SAMPLES_APART", "Shuffled", "UniformSignConcordant"]
