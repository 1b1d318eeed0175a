"""`cascade costs`."""
