"""Facts -> sentences: the only place that writes English."""
