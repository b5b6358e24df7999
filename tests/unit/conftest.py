"""How hypothesis searches: always the same examples, and no test is timed; `HYPOTHESIS_PROFILE=thorough` looks for new ones."""

import os

from hypothesis import HealthCheck, Phase, settings

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "report_multiple_bugs": False}
QUICK = [Phase.explicit, Phase.generate]  # shrinking takes minutes: the thorough profile does it

settings.register_profile("default", max_examples=100, derandomize=True, phases=QUICK, **COMMON)
settings.register_profile("thorough", max_examples=5000, print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
