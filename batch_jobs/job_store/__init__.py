"""What a job keeps in a shared folder while it runs: plan, claims, journals, commits, partial pieces."""
