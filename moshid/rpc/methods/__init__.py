"""The methods, one module a subject; each names its own in ``METHODS``."""
