"""`cascade dashboard`."""
