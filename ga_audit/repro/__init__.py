"""Train a tiny model on the installed stack and measure the truth."""
