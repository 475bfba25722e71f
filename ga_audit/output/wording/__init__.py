"""Sentences for what an audit found, made from its facts."""
