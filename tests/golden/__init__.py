"""The wire as bytes that must stay decodable for ever: wire_v1.json, made by regenerate.py, held by test_wire_golden.py."""
