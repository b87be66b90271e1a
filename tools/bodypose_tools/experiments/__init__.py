"""Tables and pictures of finished runs: what each changed, reached and cost."""
