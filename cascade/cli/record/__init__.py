"""`cascade record`."""
