"""Writing files: whole or not at all, and never over what is not ours."""
