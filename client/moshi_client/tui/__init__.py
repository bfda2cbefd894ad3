"""The terminal UI: what the daemon does, live, and keys to control it.

``state`` and ``reduce`` turn what the daemon says into one immutable state, ``keys`` and ``act``
turn what the user types into calls, ``view`` turns a state into styled lines; all of these are
pure. ``link`` (the socket), ``terminal`` (the screen and its modes) and ``app`` (the loop between
them) are the edge. Loaded by the command ``tui`` alone, so that other commands start as fast as
ever; but for ``text``, by which they know how wide is what is not ASCII.
"""
