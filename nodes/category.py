"""The one place in the node menu under which all nodes stand."""

CATEGORY = "MixGRPO"
