"""Load tests of a running pose server: Locust users, `pose-loadtest`, and its verdict."""
