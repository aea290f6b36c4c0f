"""No deadline for an example: the machine is shared."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("loop", deadline=None)
hypothesis.settings.load_profile("loop")
