"""What a node tells: metrics, health, logs and ids."""
