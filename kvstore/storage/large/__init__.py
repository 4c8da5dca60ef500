"""Large values beside the engine's tables: pointers, files of values, and the room that overwritten ones left (ADR 33)."""
