"""Tests of moshid."""
