"""What brings replicas together again."""
