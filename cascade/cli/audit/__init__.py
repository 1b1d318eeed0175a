"""`cascade audit`."""
