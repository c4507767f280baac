"""What an operator runs and deploys: the demo cluster, manifests, dashboards. Run from a checkout, never installed."""
