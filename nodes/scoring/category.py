"""Where the scoring nodes stand in the node menu."""

from ..category import CATEGORY

SCORING = f"{CATEGORY}/scoring"
