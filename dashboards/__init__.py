"""Where a person looks: Grafana dashboards, rendered from the metric list."""

# The launcher compares this mark to make sure that the package found is ours.
OWNER = "recwatch"
