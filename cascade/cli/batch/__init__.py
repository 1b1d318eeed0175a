"""`cascade batch`."""
