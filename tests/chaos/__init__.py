"""The chaos suite's own parts: checkers that must be able to find something."""
