"""What a correct trainer would have logged, and where it goes."""
