"""When someone is told, and how: objectives, burn rates, rules and notifiers."""

# The launcher compares this mark to make sure that the package found is ours.
OWNER = "recwatch"
