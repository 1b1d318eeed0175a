"""Replay: the rule over a whole corpus, and what that comes to in quality and money."""
