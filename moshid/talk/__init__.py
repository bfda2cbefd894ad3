"""One conversation at a time: the use case that joins model and audio."""
