"""Many runs at once: which to take, and a table of them."""
