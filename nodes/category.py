"""Where the nodes stand in the node menu: all under one root."""

CATEGORY = "MixGRPO"
REWARDS, SAMPLING, SCORING = (f"{CATEGORY}/{name}" for name in ("rewards", "sampling", "scoring"))
