"""The page on which people label, served by the front: pages for people where the rest of the gateway speaks JSON.

What is asked of whom, what is stored and what is fair is said in `loop.label`; here it is only shown and taken. The
front imports this package whole and it costs it nothing until somebody labels: lake, database and templates are opened
at the first request.
"""

from __future__ import annotations

from loop.gateway.labelling.room import IMAGES, Labelling

__all__ = ["IMAGES", "Labelling"]
