"""Tests of kvstore/cluster."""
