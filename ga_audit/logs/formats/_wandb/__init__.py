"""What reading and writing W&B runs share."""
