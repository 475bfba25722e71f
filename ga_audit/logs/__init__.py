"""From a target to runs: find the logs, read them, merge what belongs to one training."""
