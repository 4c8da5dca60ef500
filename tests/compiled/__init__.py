"""The compiled distributions: how they are built here, and which tests are run on them."""
