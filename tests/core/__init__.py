"""The pure core's decisions."""
