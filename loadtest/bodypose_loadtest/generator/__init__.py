"""What runs in a process that gevent has patched: senders, their requests, and Locust's users."""
