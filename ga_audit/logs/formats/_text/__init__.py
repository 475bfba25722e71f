"""What the text formats share."""
