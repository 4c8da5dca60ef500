"""The pages are true: what they show is run."""
