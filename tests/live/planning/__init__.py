"""Plans at work, live: over loopback, with the real SDK."""
