"""`cascade mode`."""
