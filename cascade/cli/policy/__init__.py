"""`cascade policy`."""
