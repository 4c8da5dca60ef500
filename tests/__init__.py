"""The tests: a folder for each package, and laws, transcripts, contracts, golden, house, integration and bench."""
