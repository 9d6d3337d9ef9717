"""The daemon and the command line: everything with effects."""

# The launcher compares this mark to make sure that the package found is ours.
OWNER = "recwatch"
