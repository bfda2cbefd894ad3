"""The daemon as a job of launchd or systemd: files, environment, loading. Used by install, doctor.

Imports settings and errors only, and nothing that the daemon runs.
"""
