"""How hard properties are tried: Hypothesis profiles, chosen by the environment variable HYPOTHESIS_PROFILE.

    ci      20 examples each, the same ones every time (the default)
    long    400 examples each, new ones every time
"""
import os

from hypothesis import HealthCheck, settings


def register_profiles():
    """Make both profiles known to Hypothesis and load the chosen one; returns its name."""
    common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
    settings.register_profile("ci", max_examples=20, derandomize=True, **common)
    settings.register_profile("long", max_examples=400, **common)
    name = os.environ.get("HYPOTHESIS_PROFILE", "ci")
    settings.load_profile(name)
    return name
