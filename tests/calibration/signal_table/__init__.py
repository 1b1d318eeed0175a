"""What each signal is worth."""
