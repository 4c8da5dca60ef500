"""What brings replicas together again: hinted handoff."""
