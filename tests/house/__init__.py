"""Tests of the house itself: packaging, documentation, what is committed; and the long run."""
