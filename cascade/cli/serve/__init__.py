"""`cascade serve` and `cascade serve keys …`."""
