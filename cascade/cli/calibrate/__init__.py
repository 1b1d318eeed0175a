"""`cascade calibrate`."""
