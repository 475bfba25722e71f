"""What reading and writing TensorBoard event files share."""
