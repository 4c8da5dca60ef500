"""A cluster under load for long, with a node restarted now and then: nothing fails, nothing is lost, nothing grows."""
