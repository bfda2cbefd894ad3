"""What the demonstration needs besides moshid itself: a small model, a Hub on loopback."""
