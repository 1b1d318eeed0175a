"""`cascade savings`."""
